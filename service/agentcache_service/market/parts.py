"""The marketplaces' parts, built once per process from the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agentcache_service.cacheapi.engine import CacheEngine
from agentcache_service.files import SharedFiles
from agentcache_service.settings import Settings
from agentcache_service.usage.plans import Plans

from .blobs import BlobStore, IpfsRpc, LocalCas
from .commission_rates import Rates, read_rates
from .partner_catalog import Catalog, load_catalog
from .response_cache import EngineResponses, ResponseCache
from .shared_blobs import SharedCas
from .tap import Tap


@dataclass(frozen=True, slots=True)
class PartnerClient:
    """Our account at a partner: the OAuth client, and the secret its postbacks are signed with."""

    id: str = ""
    secret: str = ""
    postback: str = ""

    def __repr__(self) -> str:
        return f"PartnerClient(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Market:
    """Catalogue, stores and figures of both marketplaces."""

    catalog: Catalog
    rates: Rates
    credentials: BlobStore
    packages: BlobStore
    responses: ResponseCache
    tap: Tap
    clients: Mapping[str, PartnerClient]


def build_market(settings: Settings, plans: Plans, engine: CacheEngine, files: SharedFiles | None = None) -> Market:
    """Assemble the room; blobs lie in the shared files where there are any."""

    def store(kind: str) -> BlobStore:
        return LocalCas(settings.data_dir / kind) if files is None else SharedCas(files, kind)

    credentials = store("credentials")
    if settings.credential_store == "ipfs":
        credentials = IpfsRpc(settings.ipfs_api)
    return Market(
        catalog=load_catalog(settings.partners_dir),
        rates=read_rates(plans.raw),
        credentials=credentials,
        packages=store("packages"),
        responses=EngineResponses(engine),
        tap=Tap(),
        clients=_clients(settings),
    )


def _clients(settings: Settings) -> dict[str, PartnerClient]:
    if settings.partner_clients is None:
        return {}
    try:
        raw = json.loads(settings.partner_clients.get_secret_value())
        return {slug: PartnerClient(**fields) for slug, fields in raw.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            'partner_clients must be JSON such as {"replicate": {"id": "…", "secret": "…", "postback": "…"}}'
        ) from error
