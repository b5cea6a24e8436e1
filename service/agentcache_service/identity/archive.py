"""A person's copy as one ZIP file: what `privacy.export` tells, and the cached values and assets themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile

import orjson
from sqlalchemy import select

from agentcache_core.codec.serialize import loads
from agentcache_core.errors import CorruptFrame
from agentcache_core.keys import Key
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Trouble
from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.identity import privacy
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

_BLOCK = 1 << 18
_READABLE = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
README = """What is in here

account.json            everything kept about you and, if you are its admin, about your organization
entries/<namespace>/    the values in the cache, named as in account.json under "entries"
assets/                 the files you uploaded, named by their ids in account.json under "assets"

Values that your own program encrypted are not here: only it can read them.
"""


def write(service: Service, principal: Principal, file: IO[bytes]) -> None:
    """Write the archive into an empty file."""
    service.meter.flush()
    with service.db.read() as session:
        copy = privacy.export(service, session, principal)
        org_ids = [org["id"] for org in copy["organizations"]]
        assets = list(session.scalars(select(AssetRecord).where(AssetRecord.org_id.in_(org_ids))))
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README)
        archive.writestr("account.json", orjson.dumps(copy, option=_READABLE))
        for org in copy["organizations"]:
            for room in dict.fromkeys(entry["namespace"] for entry in org["entries"]):
                for name, value in _values(service, org["id"], room):
                    archive.writestr(f"entries/{room}/{name}", value)
        for row in assets:
            _add_asset(service, archive, row)


def _values(service: Service, org_id: str, room: str) -> Iterator[tuple[str, bytes]]:
    """Every readable value of a namespace under the file name it gets: bytes as they are, all else as JSON."""
    for name, record in service.engine.entries(org_id, room):
        if record.kind == "asset":
            continue
        payload = _payload(service, org_id, room, name, record)
        if payload is None:
            continue
        try:
            value = loads(payload)
        except CorruptFrame:
            continue
        if isinstance(value, bytes):
            yield f"{name.hex()}.bin", value
        else:
            yield f"{name.hex()}.json", orjson.dumps(value, default=str, option=_READABLE)


def _payload(service: Service, org_id: str, room: str, name: bytes, record: EntryRecord) -> bytes | None:
    """The payload, from its entry or its blob; None when the blob is lost."""
    if record.payload is not None:
        return record.payload
    view: Any = service.engine.view(org_id, room)
    space, authority = view._space, view._core.tiers.authority
    key = Key(record.kind, name.removeprefix(space.entries_prefix))
    answer = drive(authority.read(BLOCKING, space, key, 0, generation=False))
    found = None if isinstance(answer, Trouble) else answer[0]
    return None if found is None else bytes(found.value)


def _add_asset(service: Service, archive: ZipFile, row: AssetRecord) -> None:
    try:
        reader = service.engine.view(row.org_id, row.namespace).open_asset(row.cache_key)
    except KeyError:
        return  # its time is over; the row waits to be swept
    with closing(reader), archive.open(f"assets/{row.id}", "w", force_zip64=True) as target:
        while block := reader.read(_BLOCK):
            target.write(block)
