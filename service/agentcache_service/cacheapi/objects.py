"""Opaque objects of remote caches: names walled inside the organization, bytes charged to its quota.

A remote client computes the same names as the service's own engine, so both see the same entries. A name that begins
with the organization's prefix is used as it is; any other name is the customer's own and kept under `<prefix>/o/`, or,
where that would be too long for a backend, under `<prefix>/l/` and its digest, with the name before the bytes. Either
way nothing outside the organization's prefix can be named.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from agentcache_core.backend import MAX_NAME, Stat, Stored
from agentcache_core.errors import BackendFull, BackendReadOnly
from agentcache_core.space import Space
from agentcache_service.cacheapi.place import Place, admit_bytes, admit_request
from agentcache_service.errors import Forbidden, NotFound, QuotaExceeded, ServiceError
from agentcache_service.identity.tables import Namespace
from agentcache_service.principal import Principal
from agentcache_service.usage import stock

if TYPE_CHECKING:
    from agentcache_service.service import Service

MOST_BYTES = 32 << 20
"""The bytes one call reads at most, beyond its first object."""
Later = Literal[False]
LATER: Later = False
_OWN, _LONG = b"/o/", b"/l/"
_LONGEST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a client's name leads: the name in storage, the namespace it is charged to, and whether it is an entry."""

    name: bytes
    namespace: str
    is_entry: bool
    is_shared: bool
    label: bytes = b""

    @property
    def stock_name(self) -> str:
        """The name under which its bytes are charged; the same as for `/api/cache/set`."""
        return _charged_as(self.name)


def _charged_as(name: bytes) -> str:
    return name.hex() if len(name) <= _LONGEST_SHOWN else "h:" + hashlib.sha256(name).hexdigest()


def is_own(space: Space, charged_as: str) -> bool:
    """True for the charge of an object that a customer named: only those can have long names."""
    own = tuple((space.tenant_prefix + mark).hex() for mark in (_OWN, _LONG))
    return charged_as.startswith(("h:", *own))


def delete_own(service: Service, space: Space, charged_as: Collection[str]) -> None:
    """Delete the customer's own objects that were charged under these names."""
    wanted = set(charged_as)
    store = service.engine.objects
    for prefix in (space.tenant_prefix + _OWN, space.tenant_prefix + _LONG) if wanted else ():
        for stat in [stat for stat in store.scan(prefix) if _charged_as(stat.name) in wanted]:
            store.delete(stat.name, if_version=stat.version)


class Room:
    """The objects of one organization as one caller may use them."""

    def __init__(self, service: Service, principal: Principal, place: Place) -> None:
        self._service = service
        self._principal = principal
        self._place = place
        self._prefix = service.engine.space(place.org_id, place.namespace).tenant_prefix
        self._namespaces = self._known_namespaces()

    def _known_namespaces(self) -> dict[bytes, str]:
        with self._service.db.read() as session:
            names = session.scalars(select(Namespace.name).where(Namespace.org_id == self._place.org_id)).all()
        return {self._service.engine.space(self._place.org_id, name).prefix: name for name in names}

    def spot(self, name: bytes) -> Spot:
        """Where a name leads; raises `NotFound` or `Forbidden` for a namespace that is not there or not the key's."""
        if not 1 <= len(name) <= MAX_NAME:
            raise ServiceError(f"A name has 1 to {MAX_NAME} bytes.", code="name", status=422)
        if not name.startswith(self._prefix) or name.startswith((self._prefix + _OWN, self._prefix + _LONG)):
            return self._own_spot(name)
        rest = name[len(self._prefix) :]
        if rest.startswith(b"/"):
            return Spot(name, self._place.namespace, is_entry=False, is_shared=True)
        prefix = name[: len(self._prefix) + 16]
        namespace = self._namespaces.get(prefix)
        if namespace is None:
            raise NotFound("This name belongs to a namespace that does not exist.", code="namespace_unknown")
        allowed = self._principal.namespaces
        if allowed is not None and namespace not in allowed:
            raise Forbidden("This API key may not use this namespace.", code="wrong_namespace")
        return Spot(name, namespace, is_entry=name[len(prefix) :].startswith(b"/e/"), is_shared=False)

    def _own_spot(self, name: bytes) -> Spot:
        if self._principal.namespaces is not None:
            raise Forbidden("A key restricted to namespaces uses names of their entries only.", code="wrong_namespace")
        stored, label = self._prefix + _OWN + name, b""
        if len(stored) > MAX_NAME:
            stored = self._prefix + _LONG + hashlib.sha256(name).digest()
            label = len(name).to_bytes(2, "big") + name
        return Spot(stored, self._place.namespace, is_entry=True, is_shared=False, label=label)

    def shown(self, name: bytes) -> bytes:
        """The client's name of a name in storage."""
        own = self._prefix + _OWN
        return name[len(own) :] if name.startswith(own) else name

    def get(self, names: Sequence[bytes]) -> list[Stored | Later | None]:
        """What is stored under several names, in their order; entries count as requests, bytes as bandwidth.

        Objects are read one by one, each name once, and admitted before the next is read, so a call holds at most
        `MOST_BYTES` and one object. Names past that, or past the quota, are `LATER`: ask again. The first name is
        always answered, or refused.
        """
        spots = {name: self.spot(name) for name in names}
        known: dict[bytes, Stored | None] = {}
        answers: list[Stored | Later | None] = []
        size = 0
        for name in names:
            try:
                if name not in known:
                    known[name] = self._read(spots[name])
                stored = known[name]
                sent = len(stored.data) if stored is not None else 0
                if answers and size + sent > MOST_BYTES:
                    break
                admit_bytes(self._service, self._place, sent)
            except QuotaExceeded:
                if not answers:
                    raise
                break
            size += sent
            self._count_sent(spots[name], stored)
            answers.append(stored)
        return answers + [LATER] * (len(names) - len(answers))

    def _read(self, spot: Spot) -> Stored | None:
        if spot.is_entry:
            self._count_request(spot)
        stored = self._service.engine.objects.get(spot.name)
        return Stored(stored.data[len(spot.label) :], stored.version) if stored else None

    def _count_sent(self, spot: Spot, stored: Stored | None) -> None:
        sent = len(stored.data) if stored is not None else 0
        hit = {"hits": int(stored is not None), "misses": int(stored is None)} if spot.is_entry else {}
        self._service.meter.count(
            self._place.org_id, spot.namespace, self._place.now, bytes_out=sent, bytes_saved=sent, **hit
        )

    def _count_request(self, spot: Spot) -> None:
        admit_request(self._service, self._place)
        self._service.meter.count(self._place.org_id, spot.namespace, self._place.now, requests=1)

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: bytes | None = None,
        weight: float | None = None,
    ) -> bytes | None:
        """Write under the backend's conditions; the new version, or None when a condition did not hold."""
        spot = self.spot(name)
        if spot.is_entry:
            self._count_request(spot)
        if spot.is_shared and self._principal.namespaces is not None:
            if_absent = True  # what namespaces share must not be replaced by a key of one of them
        item = stock.Item(
            self._place.org_id,
            spot.namespace,
            spot.stock_name,
            "hot_bytes",
            len(data),
            hashlib.sha256(data).hexdigest(),
            _moment(expires_at),
        )
        hold = stock.reserve(self._service, item)
        try:
            version: bytes | None = self._service.engine.objects.put(
                spot.name,
                spot.label + data,
                expires_at=expires_at,
                if_absent=if_absent,
                if_version=if_version,
                weight=weight,
            )
        except (BackendFull, BackendReadOnly) as problem:
            stock.give_up(self._service, hold)
            raise ServiceError(str(problem), code="not_stored", status=507) from None
        except Exception:
            stock.give_up(self._service, hold)
            raise
        if version is None:
            stock.give_up(self._service, hold)
            return None
        duplicate = stock.commit(self._service, hold, item)
        self._service.meter.count(
            self._place.org_id,
            spot.namespace,
            self._place.now,
            sets=int(spot.is_entry),
            bytes_in=len(data),
            duplicate_sets=int(duplicate),
            duplicate_bytes=len(data) if duplicate else 0,
        )
        return version

    def delete(self, name: bytes, *, if_version: bytes | None = None) -> bool:
        """Remove; False when there was nothing, or another version."""
        spot = self.spot(name)
        if spot.is_shared and self._principal.namespaces is not None:
            raise Forbidden("A key restricted to namespaces cannot remove what they share.", code="wrong_namespace")
        removed = bool(self._service.engine.objects.delete(spot.name, if_version=if_version))
        if removed:
            with self._service.db.write() as session:
                stock.remove(session, self._place.org_id, [(spot.namespace, spot.stock_name)])
        return removed

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        """Keep an object alive; False when there is none. Stores without the power rewrite it."""
        spot = self.spot(name)
        objects: Any = self._service.engine.objects
        if hasattr(objects, "touch"):
            return bool(objects.touch(spot.name, expires_at))
        stored = objects.get(spot.name)
        return bool(stored) and objects.put(spot.name, stored.data, expires_at=expires_at) is not None

    def scan(self, prefix: bytes, *, after: bytes = b"", limit: int = 1000) -> list[Stat]:
        """Names that begin with `prefix` and come after `after`, in byte order, at most `limit`."""
        if self._principal.namespaces is not None:
            self.spot(prefix)  # a restricted key lists inside its own namespaces only
            if prefix[len(self._prefix) :].startswith(b"/"):
                raise Forbidden("A key restricted to namespaces cannot list what they share.", code="wrong_namespace")
        own = self._prefix + _OWN
        sources = [self._listed((own + prefix)[:MAX_NAME], (own + after)[:MAX_NAME] if after else b"")]
        sources.append(iter(sorted(self._long_names(prefix), key=lambda stat: stat.name)))
        if prefix.startswith(self._prefix) or self._prefix.startswith(prefix):
            wanted = prefix if prefix.startswith(self._prefix) else self._prefix
            sources.append(
                stat for stat in self._listed(wanted, after) if not stat.name.startswith((own, self._prefix + _LONG))
            )
        renamed = ((Stat(self.shown(stat.name), *stat[1:]) for stat in source) for source in sources)
        merged = heapq.merge(*renamed, key=lambda stat: stat.name)
        page: list[Stat] = []
        for stat in merged:
            if stat.name <= after or not stat.name.startswith(prefix):
                continue
            page.append(stat)
            if len(page) >= limit:
                break
        return page

    def _long_names(self, prefix: bytes) -> Iterator[Stat]:
        objects = self._service.engine.objects
        for stat in objects.scan(self._prefix + _LONG):
            stored = objects.get(stat.name)
            if not stored:
                continue
            length = int.from_bytes(stored.data[:2], "big")
            name = stored.data[2 : 2 + length]
            if name.startswith(prefix):
                yield Stat(name, stat.size - 2 - length, *stat[2:])

    def _listed(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        objects = self._service.engine.objects
        stats = objects.scan(prefix, after=after if after > prefix else b"")
        if objects.capabilities.ordered_scan:
            return iter(stats)
        return iter(sorted(stats, key=lambda stat: stat.name))


def _moment(expires_at: float | None) -> datetime | None:
    if expires_at is None:
        return None
    try:
        return datetime.fromtimestamp(expires_at, UTC)
    except (OverflowError, ValueError, OSError):
        return None
