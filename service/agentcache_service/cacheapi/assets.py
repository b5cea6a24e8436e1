"""Assets: bodies of any size, stored once per organization, with a stable address, a digest and signed links."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_core import Cache
from agentcache_core.errors import CorruptFrame
from agentcache_core.store.reading import AssetReader
from agentcache_service.cacheapi.place import Place
from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.errors import Forbidden, NotFound
from agentcache_service.identity import orgs
from agentcache_service.orm import new_id
from agentcache_service.usage import quota, stock
from agentcache_service.usage.plans import require_feature

if TYPE_CHECKING:
    from agentcache_service.service import Service

LINK_LIFE = timedelta(hours=1)
LONGEST_LINK = timedelta(days=7)
_BLOCK = 256 << 10
_PURPOSE = "asset link"


@dataclass(frozen=True, slots=True)
class StoredAsset:
    """An upload's outcome: the record of its key, whose address other keys with the same content may share."""

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
    """Keep a file under a key. Equal content of the organization is neither stored nor charged again, and has one
    address; a key that held other content before leaves that content's address."""
    require_feature(place.plan, "multimodal", public_url=service.settings.public_url)
    if place.settings.get("assets") is False:
        raise Forbidden("This namespace takes no assets: its setting assets is false.", code="assets_off")
    digest, size = digest_of(file)
    expires_at = None if ttl is None else place.now + timedelta(seconds=ttl)
    object_key = _object_key(key)
    item = stock.Item(place.org_id, place.namespace, _item_name(object_key), "asset_bytes", size, digest, expires_at)
    hold = stock.reserve(service, item)
    view = service.engine.view(place.org_id, place.namespace)
    try:
        stored = view.put_asset(key, file, content_type, ttl=ttl, durable=True)
    except Exception:
        stock.give_up(service, hold)
        raise
    record = AssetRecord(
        id=new_id("ast"),
        address=address_of(place.org_id, digest, content_type),
        org_id=place.org_id,
        namespace=place.namespace,
        cache_key=key,
        entry_name=_entry_name(view, key),
        object_key=object_key,
        content_hash=digest,
        engine_digest=stored.digest.hex(),
        size=size,
        mime_type=content_type,
        expires_at=expires_at,
        created_at=place.now,
    )
    with service.db.write() as session:
        orgs.lock(session, place.org_id)
        if _holds(view, record):
            record = _note(session, record)
            duplicate = stock.commit_within(session, hold, item, stored_at=place.now)
        else:  # another upload has replaced this one in the meantime; its own record follows or is there
            quota.release(session, hold)
            duplicate = False
    service.meter.count(
        place.org_id,
        place.namespace,
        place.now,
        sets=1,
        bytes_in=size,
        duplicate_sets=int(duplicate),
        duplicate_bytes=size if duplicate else 0,
    )
    return StoredAsset(record, duplicate)


def address_of(org_id: str, digest: str, content_type: str) -> str:
    """The address of content (SHA-256 in hex) and type in one organization: made from them, so it never changes, comes
    back when the content does, and is the same for equal uploads. Reading it needs a key or a signed link."""
    parts = "\0".join((org_id, digest, content_type))
    return "ast_" + hashlib.sha256(parts.encode()).hexdigest()[:24]


def _object_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _item_name(object_key: str) -> str:
    return f"asset:{object_key}"


def _entry_name(view: Cache, key: str) -> str:
    return view._space.entry_name(view._core.assets.key(view._space, key)).hex()


def _holds(view: Cache, record: AssetRecord) -> bool:
    """True while the engine has the record's own content under its key."""
    try:
        reader = view.open_asset(record.cache_key)
    except KeyError:
        return False
    with closing(reader):
        return record.engine_digest in {"", reader.digest.hex()}


def _note(session: Session, new: AssetRecord) -> AssetRecord:
    """Keep the record of a key, in place of the key's older one; called with the organization locked."""
    old = session.scalars(
        select(AssetRecord).where(
            AssetRecord.org_id == new.org_id,
            AssetRecord.namespace == new.namespace,
            AssetRecord.object_key == new.object_key,
        )
    ).one_or_none()
    if old is None:
        session.add(new)
        return new
    if new.address != old.address:
        old.hit_count, old.bytes_sent, old.last_access_at, old.created_at = 0, 0, None, new.created_at
    for name in ("address", "content_hash", "engine_digest", "entry_name", "size", "mime_type", "expires_at"):
        setattr(old, name, getattr(new, name))
    return old


def find(
    session: Session, address: str, *, org_id: str | None, namespaces: frozenset[str] | None, now: datetime
) -> list[AssetRecord]:
    """The living records behind an address: of this organization, and of these namespaces, where they are named.

    All have the same content. Raises `NotFound` when there is none.
    """
    query = select(AssetRecord).where(
        AssetRecord.address == address, (AssetRecord.expires_at.is_(None)) | (AssetRecord.expires_at > now)
    )
    if org_id is not None:
        query = query.where(AssetRecord.org_id == org_id)
    if namespaces is not None:
        query = query.where(AssetRecord.namespace.in_(namespaces))
    rows = list(session.scalars(query.order_by(AssetRecord.created_at, AssetRecord.id)))
    if not rows:
        raise NotFound("There is no such asset.")
    return rows


def open_asset(service: Service, rows: Sequence[AssetRecord]) -> tuple[AssetRecord, AssetReader]:
    """A seekable reader of the content that these records share; raises `NotFound` when the engine has lost it."""
    for row in rows:
        try:
            reader = service.engine.view(row.org_id, row.namespace).open_asset(row.cache_key)
        except KeyError:
            continue
        if row.engine_digest in {"", reader.digest.hex()} and reader.size == row.size:
            return row, reader
        reader.close()
    raise NotFound("There is no such asset.")


def blocks(reader: AssetReader, first: int, length: int) -> Iterator[bytes]:
    """`length` bytes from `first`, block by block; closes the reader.

    The first block is read before this returns, so that content which was lost is found out before an answer begins.
    """
    reader.seek(first)
    try:
        opening = reader.read(min(_BLOCK, length)) or b""
    except CorruptFrame:
        reader.close()
        raise NotFound("There is no such asset.") from None
    return _rest(reader, opening, length)


def _rest(reader: AssetReader, block: bytes, left: int) -> Iterator[bytes]:
    with closing(reader):
        while block:
            yield block
            left -= len(block)
            block = reader.read(min(_BLOCK, left)) or b""


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
    return f"{service.settings.public_url}/api/assets/{row.address}"


def signed_link(service: Service, row: AssetRecord, *, life: timedelta = LINK_LIFE) -> tuple[str, datetime]:
    """An address that works without a key until it expires."""
    until = service.clock.now() + min(life, LONGEST_LINK)
    stamp = str(int(until.timestamp()))
    signature = service.vault.sign(f"{row.address}:{stamp}", purpose=_PURPOSE)
    return f"{service.settings.public_url}/assets/{row.address}?expires={stamp}&signature={signature}", until


def check_link(service: Service, address: str, expires: int, signature: str) -> None:
    """Raise `NotFound` unless a link is one of ours, for this asset, and not expired."""
    good = service.vault.verify(f"{address}:{expires}", signature, purpose=_PURPOSE)
    if not good or expires <= service.clock.now().timestamp():
        raise NotFound("There is no such asset.")


def upload_folder(service: Service) -> Path:
    """Where bodies wait while they arrive."""
    folder = service.settings.data_dir / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
