"""Examines a store: can it be reached, written, trusted with conditions and time, and does it keep what it is given?"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Any

from agentcache_adapters.absent import absent
from agentcache_adapters.finding import SKEW_SECONDS, Finding
from agentcache_core import MISSING
from agentcache_core.errors import AgentCacheError, ConfigurationError
from agentcache_core.urls import StoreUrl, load_scheme, open_backend, parse_url

_ROUND_TRIPS = 4
_PREFIX = b"agentcache-doctor/"


def examine(url: str, *, namespace: str = "") -> list[Finding]:
    """Look a store over by writing, reading and removing a name of its own. Raises `ConfigurationError` for a URL that
    cannot work; everything else becomes a finding. `namespace` is for `agentcache+https://`, whose key comes from the
    environment."""
    place = parse_url(url)
    try:
        if place.scheme.startswith("agentcache+"):
            url, _tenant = load_scheme(place.scheme).sign_in(place, api_key=None, namespace=namespace, tenant="asked")
        if missing := absent(url):
            remedy = "mend the path; if it is right, the first program that opens a cache there makes the store"
            return [Finding("connect", "bad", missing, remedy)]
        backend: Any = open_backend(url)
    except ConfigurationError:
        raise
    except AgentCacheError as error:
        return [Finding("connect", "bad", str(error), "start the server, or mend the address, path or permissions")]
    try:
        return [*_examined(backend, place)]
    finally:
        backend.close()


def _examined(backend: Any, place: StoreUrl) -> Iterator[Finding]:
    name = _PREFIX + secrets.token_hex(8).encode()
    began = time.perf_counter()
    try:
        backend.get(name)
    except AgentCacheError as error:
        remedy = remedy_for(error, "start the server, or mend address and credentials")
        yield Finding("connect", "bad", str(error), remedy)
        return
    yield Finding("connect", "good", f"answered the first request in {(time.perf_counter() - began) * 1000:.1f} ms")
    try:
        yield from _written(backend, name)
    except AgentCacheError as error:
        remedy = remedy_for(error, "give the account the right to write, or free space")
        yield Finding("write", "bad", str(error), remedy)
        _try_to_remove(backend, name)
    else:
        yield _removed(backend, name)
        yield _durability(backend)
    if place.scheme in ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"):
        from agentcache_adapters.doctor_redis import told_by_redis  # the extra is there: the backend was opened

        yield from told_by_redis(place)
    if place.scheme == "s3":
        from agentcache_adapters.doctor_s3 import told_by_s3  # likewise

        yield from told_by_s3(backend)


def _written(backend: Any, name: bytes) -> Iterator[Finding]:
    expires = time.time() + 60
    version = backend.put(name, b"x" * 1024, expires_at=expires)
    times = []
    for _ in range(9):
        before = time.perf_counter()
        stored = backend.get(name)
        times.append(time.perf_counter() - before)
    same = stored is not MISSING and stored.data == b"x" * 1024
    yield Finding("write", "good" if same else "bad", "what was written is read back" if same else "reads differ")
    yield _latency(statistics.median(times), backend)
    refused = backend.put(name, b"y", if_absent=True) is None
    began = time.time()
    replaced = backend.put(name, b"z", if_version=version, expires_at=expires) is not None
    ended = time.time()
    if refused and replaced and backend.capabilities.conditional_put:
        yield Finding("conditional writes", "good", "enforced")
    else:
        yield Finding(
            "conditional writes",
            "mind",
            "not enforced by this store: of two writers at the same moment the later one wins",
            "use it below a tier that enforces them, or a store that knows If-None-Match",
        )
    for stat in backend.scan(name):
        # The store's time fell between the two if the clocks agree.
        skew = stat.modified_at - min(max(stat.modified_at, began), ended)
        if stat.modified_at and abs(skew) > SKEW_SECONDS:
            yield Finding("clock", "mind", f"{skew:+.1f} s from this machine", "let both keep time by NTP")
        elif stat.modified_at:
            yield Finding("clock", "good", f"within {SKEW_SECONDS:.0f} s of this machine")


def _latency(seconds: float, backend: Any) -> Finding:
    said = f"a read of 1 KB takes {seconds * 1000:.2f} ms (median of 9)"
    limit = getattr(backend, "timeout", None)
    if not isinstance(limit, float) or seconds * _ROUND_TRIPS < limit:
        return Finding("latency", "good", said)
    remedy = f"a call makes up to {_ROUND_TRIPS} requests: give the URL ?timeout={seconds * _ROUND_TRIPS * 2:.1f}s"
    return Finding("latency", "mind", f"{said}; a call may take {limit:.3g} s", remedy)


def _removed(backend: Any, name: bytes) -> Finding:
    try:
        backend.delete(name)
        gone = not backend.get(name)
    except AgentCacheError as error:
        remedy = "give the account the right to delete: without it nothing is invalidated or freed"
        return Finding("delete", "bad", str(error), remedy_for(error, remedy))
    return Finding("delete", "good" if gone else "bad", "what was removed is gone" if gone else "it is still read")


def _try_to_remove(backend: Any, name: bytes) -> None:
    try:
        backend.delete(name)
    except AgentCacheError:
        return  # what did not arrive is not there; the rest expires within a minute


def remedy_for(error: Exception, otherwise: str) -> str:
    """What to change, by what the store says."""
    return "create the bucket, or mend its name" if "bucket" in str(error) else otherwise


def _durability(backend: Any) -> Finding:
    traits = backend.capabilities
    shared = "shared between machines or processes" if traits.shared else "for this process alone"
    if traits.durable:
        return Finding("durability", "good", f"keeps what it acknowledged; {shared}")
    return Finding(
        "durability", "mind", f"may forget at a restart; {shared}", "put a durable tier below it for what must last"
    )
