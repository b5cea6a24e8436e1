"""What an operator should know before customers come: `agentcache-service check`.

Every finding names a setting and how to mend it. A *problem* will break something; a *warning* is right on one machine
and wrong on several, or the other way round.
"""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from agentcache_core.errors import AgentCacheError
from agentcache_core.urls import open_backend, parse_url
from agentcache_service import jobs, schema
from agentcache_service.cacheapi.engine import CacheEngine
from agentcache_service.cacheapi.meaning import semantic_of
from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.settings import Settings

Level = Literal["ok", "warning", "problem"]
_PROBE = b"agentcache-service check: a name nobody writes"
_PATIENCE_S = 10.0
_LATE = timedelta(minutes=5)
_ON_THIS_MACHINE = ("sqlite", "file", "memory")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `setting` is the environment variable's name without its prefix."""

    level: Level
    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.setting}: {self.text}"


def run(settings: Settings, clock: Clock) -> list[Finding]:
    """Look at everything, the stores included. Writes nothing."""
    return [*_database(settings, clock), *_tiers(settings), *_semantic(settings), *of_settings(settings)]


def of_settings(settings: Settings) -> list[Finding]:
    """What can be told without asking a store."""
    return [*_shared(settings), *_addresses(settings), *_mail(settings)]


def _database(settings: Settings, clock: Clock) -> Iterator[Finding]:
    name = "DATABASE_URL"
    if is_spread(settings) and importlib.util.find_spec("psycopg") is None:
        yield Finding("problem", name, "PostgreSQL needs a driver: pip install 'agentcache[postgres]'")
        return
    if not is_spread(settings) and not Path(make_url(settings.database_url).database or "").exists():
        yield Finding("ok", name, "SQLite, made at the first start")
        return
    database = Database(settings.database_url, pool_size=1)
    try:
        database.ping()
        if not schema.is_current(database):
            yield Finding("problem", name, "the schema is old: run `agentcache-service migrate` (`serve` does it too)")
            return
        late = jobs.waiting(database, clock, since=_LATE)
        yield Finding("ok", name, f"{'PostgreSQL' if is_spread(settings) else 'SQLite'} answers, schema current")
    except SQLAlchemyError as error:
        yield Finding("problem", name, f"does not answer: {_first_line(error)}")
        return
    finally:
        database.close()
    if late:
        yield Finding("problem", "WORKER_IN_PROCESS", f"{late} jobs wait since five minutes: is a worker running?")


def _tiers(settings: Settings) -> Iterator[Finding]:
    for url in settings.cache_tiers:
        yield _reached("CACHE_TIERS", url)
    if settings.files_url:
        yield _reached("FILES_URL", settings.files_url)
    kinds = {parse_url(url).scheme for url in settings.cache_tiers}
    if kinds == {"memory"} and settings.workers > 1:
        yield Finding(
            "problem", "CACHE_TIERS", "memory is no place for several workers to share: add redis:// or s3://"
        )
    if settings.redis_url is not None:
        yield _answers("REDIS_URL", lambda: _ping_redis(settings))


def _reached(setting: str, url: str) -> Finding:
    def read() -> None:
        backend: Any = open_backend(url, face="blocking", deadline=_PATIENCE_S)
        try:
            backend.get(_PROBE)
        finally:
            backend.close()

    try:
        parsed = parse_url(url)
    except AgentCacheError as error:
        return Finding("problem", setting, str(error))
    if parsed.scheme == "memory" or (parsed.scheme == "sqlite" and not Path(parsed.path).exists()):
        return Finding("ok", setting, f"{parsed.shown}, made at the first start")
    return _answers(setting, read, parsed.shown)


def _answers(setting: str, ask: Callable[[], object], shown: str = "") -> Finding:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is what the operator must read
        return Finding("problem", setting, f"{shown} does not answer: {_first_line(error)}".strip())
    return Finding("ok", setting, f"{shown} answers".strip())


def _ping_redis(settings: Settings) -> None:
    import redis

    assert settings.redis_url is not None
    client = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=_PATIENCE_S)
    try:
        client.ping()
    finally:
        client.close()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def is_spread(settings: Settings) -> bool:
    """True when the database is one that several machines can use: then nothing may rest on this machine's disk."""
    return not settings.database_url.startswith("sqlite")


def _shared(settings: Settings) -> Iterator[Finding]:
    several = settings.workers > 1 or is_spread(settings)
    if several and settings.redis_url is None and settings.rate_limits:
        text = "without it every process counts rate limits by itself; give redis://host:6379/1"
        yield Finding("problem" if settings.workers > 1 else "warning", "REDIS_URL", text)
    if not is_spread(settings):
        return
    if settings.master_key is None:
        text = "each machine would make its own and could not open what others sealed: head -c 32 /dev/urandom | base64"
        yield Finding("problem", "MASTER_KEY", text)
    here = [url for url in settings.cache_tiers if parse_url(url).scheme in _ON_THIS_MACHINE]
    if len(here) == len(settings.cache_tiers):
        text = "every tier is on this machine; other machines would not see its entries: add redis:// or s3://"
        yield Finding("warning", "CACHE_TIERS", text)
    if not settings.files_url:
        text = "outbox mails, packages and credentials stay in DATA_DIR; give s3://bucket/files for several machines"
        yield Finding("warning", "FILES_URL", text)
    if settings.payments == "local":
        text = "local is play money, and its books lie in DATA_DIR of one machine; stripe takes real payments"
        yield Finding("warning", "PAYMENTS", text)


def _addresses(settings: Settings) -> Iterator[Finding]:
    local = _is_local(urlsplit(settings.public_url).hostname or "")
    if local and not settings.is_loopback:
        yield Finding("warning", "PUBLIC_URL", f"is {settings.public_url}: links in mails would lead nowhere")
    elif not local and not settings.is_https:
        yield Finding("warning", "PUBLIC_URL", "is http://: session cookies are then not marked Secure; use https://")
    if not settings.is_loopback and settings.metrics_token is None:
        yield Finding("warning", "METRICS_TOKEN", "without it /metrics answers callers on this machine only")
    if not settings.rate_limits:
        yield Finding("warning", "RATE_LIMITS", "is off: nothing slows guessing of passwords down")


def _is_local(host: str) -> bool:
    """True for a name or address that leads nowhere from another machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _mail(settings: Settings) -> Iterator[Finding]:
    if settings.mail_transport == "outbox" and not settings.is_loopback:
        text = "outbox sends nothing: nobody can confirm an address; give smtp and SMTP_URL"
        yield Finding("warning", "MAIL_TRANSPORT", text)


def _semantic(settings: Settings) -> Iterator[Finding]:
    if settings.semantic != "off":
        yield _answers("SEMANTIC", lambda: CacheEngine(settings, semantic_of(settings)).warm_up(), settings.semantic)
