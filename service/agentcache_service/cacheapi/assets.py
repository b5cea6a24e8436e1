"""Assets: bodies of any size, stored once per organization, with a stable address, a digest and signed links."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_service.cacheapi.place import Place
from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.errors import NotFound
from agentcache_service.orm import new_id
from agentcache_service.usage import stock
from agentcache_service.usage.plans import require_feature

if TYPE_CHECKING:
    from agentcache_service.service import Service

LINK_LIFE = timedelta(hours=1)
LONGEST_LINK = timedelta(days=7)
_BLOCK = 256 << 10
_PURPOSE = "asset link"


@dataclass(frozen=True, slots=True)
class StoredAsset:
    """An upload's outcome. `record` is the asset whose address answers it: an older one where the content was known."""

    record: AssetRecord
    deduplicated: bool


def digest_of(file: IO[bytes]) -> tuple[str, int]:
    """SHA-256 (hex) and size of a file, read from its beginning; the position is back at 0 afterwards."""
    file.seek(0)
    hasher, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        hasher.update(block)
        size += len(block)
    file.seek(0)
    return hasher.hexdigest(), size


def store(
    service: Service, place: Place, *, key: str, file: IO[bytes], content_type: str, ttl: float | None
) -> StoredAsset:
    """Keep a file under a key. Equal content of the organization is neither stored nor charged again."""
    require_feature(place.plan, "multimodal", public_url=service.settings.public_url)
    digest, size = digest_of(file)
    expires_at = None if ttl is None else place.now + timedelta(seconds=ttl)
    object_key = hashlib.sha256(key.encode()).hexdigest()
    item = stock.Item(place.org_id, place.namespace, f"asset:{object_key}", "asset_bytes", size, digest, expires_at)
    hold = stock.reserve(service, item)
    try:
        view = service.engine.view(place.org_id, place.namespace)
        view.put_asset(key, file, content_type, ttl=ttl, durable=True)
    except Exception:
        stock.give_up(service, hold)
        raise
    duplicate = stock.commit(service, hold, item)
    with service.db.write() as session:
        twin = session.scalars(
            select(AssetRecord)
            .where(AssetRecord.org_id == place.org_id, AssetRecord.content_hash == digest)
            .order_by(AssetRecord.created_at)
            .limit(1)
        ).first()
        record = _note(session, place, key, object_key, digest, size, content_type, expires_at)
    service.meter.count(
        place.org_id,
        place.namespace,
        place.now,
        sets=1,
        bytes_in=size,
        duplicate_sets=int(duplicate),
        duplicate_bytes=size if duplicate else 0,
    )
    return StoredAsset(twin or record, duplicate)


def _note(
    session: Session,
    place: Place,
    key: str,
    object_key: str,
    digest: str,
    size: int,
    content_type: str,
    expires_at: datetime | None,
) -> AssetRecord:
    row = session.scalars(
        select(AssetRecord).where(
            AssetRecord.org_id == place.org_id,
            AssetRecord.namespace == place.namespace,
            AssetRecord.object_key == object_key,
        )
    ).one_or_none()
    if row is None:
        row = AssetRecord(
            id=new_id("ast"),
            org_id=place.org_id,
            namespace=place.namespace,
            cache_key=key,
            object_key=object_key,
            content_hash=digest,
            size=size,
            mime_type=content_type,
            expires_at=expires_at,
            created_at=place.now,
        )
        session.add(row)
    row.content_hash, row.size, row.mime_type, row.expires_at = digest, size, content_type, expires_at
    return row


def find(session: Session, asset_id: str, *, org_id: str | None, now: datetime) -> AssetRecord:
    """The record, of this organization where one is named; raises `NotFound`, also when it has expired."""
    row = session.get(AssetRecord, asset_id)
    if row is None or (org_id is not None and row.org_id != org_id):
        raise NotFound("There is no such asset.")
    if row.expires_at is not None and row.expires_at <= now:
        raise NotFound("There is no such asset.")
    return row


def open_asset(service: Service, row: AssetRecord) -> Any:
    """A seekable reader of the content; raises `NotFound` when the engine has lost it."""
    try:
        return service.engine.view(row.org_id, row.namespace).open_asset(row.cache_key)
    except KeyError:
        raise NotFound("There is no such asset.") from None


def blocks(reader: Any, first: int, last: int) -> Iterator[bytes]:
    """The bytes from `first` to `last`, both included, block by block; closes the reader."""
    with closing(reader):
        reader.seek(first)
        left = last - first + 1
        while left > 0:
            block = reader.read(min(_BLOCK, left))
            if not block:
                return
            left -= len(block)
            yield block


def count_hit(service: Service, row: AssetRecord, sent: int, now: datetime) -> None:
    """Note that an asset was read."""
    with service.db.write() as session:
        session.execute(
            update(AssetRecord)
            .where(AssetRecord.id == row.id)
            .values(hit_count=AssetRecord.hit_count + 1, bytes_sent=AssetRecord.bytes_sent + sent, last_access_at=now)
        )
    service.meter.count(row.org_id, row.namespace, now, requests=1, hits=1, bytes_out=sent, bytes_saved=sent)


def address(service: Service, row: AssetRecord) -> str:
    """The stable address (it needs an API key)."""
    return f"{service.settings.public_url}/api/assets/{row.id}"


def signed_link(service: Service, row: AssetRecord, *, life: timedelta = LINK_LIFE) -> tuple[str, datetime]:
    """An address that works without a key until it expires."""
    until = service.clock.now() + min(life, LONGEST_LINK)
    stamp = str(int(until.timestamp()))
    signature = service.vault.sign(f"{row.id}:{stamp}", purpose=_PURPOSE)
    return f"{service.settings.public_url}/assets/{row.id}?expires={stamp}&signature={signature}", until


def check_link(service: Service, asset_id: str, expires: int, signature: str) -> None:
    """Raise `NotFound` unless a link is one of ours, for this asset, and not expired."""
    good = service.vault.verify(f"{asset_id}:{expires}", signature, purpose=_PURPOSE)
    if not good or expires <= service.clock.now().timestamp():
        raise NotFound("There is no such asset.")


def upload_folder(service: Service) -> Path:
    """Where bodies wait while they arrive."""
    folder = service.settings.data_dir / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
