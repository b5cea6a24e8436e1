"""The service's parts, built once per process: what routes, jobs and the command line work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from agentcache_service.cacheapi.door import Keys
from agentcache_service.cacheapi.engine import CacheEngine
from agentcache_service.cacheapi.meaning import semantic_of
from agentcache_service.clock import Clock, SystemClock
from agentcache_service.crypto import Vault, load_vault
from agentcache_service.db import Database
from agentcache_service.files import SharedFiles, shared_files
from agentcache_service.identity import credentials
from agentcache_service.identity.passwords import Passwords
from agentcache_service.mail import Transport, build_transport
from agentcache_service.market.parts import Market, build_market
from agentcache_service.market.sales import PURPOSE as SALE
from agentcache_service.market.sales import SalePayments
from agentcache_service.metrics import Metrics
from agentcache_service.money.parts import Money, build_money
from agentcache_service.principal import Principal
from agentcache_service.ratelimit import RateLimiter
from agentcache_service.safe_http import SafeClient
from agentcache_service.settings import Settings
from agentcache_service.usage.meter import Meter
from agentcache_service.usage.plans import Plans, load_plans


@dataclass(slots=True)
class Service:
    """Everything that lives as long as the process. Safe to share between threads."""

    settings: Settings
    clock: Clock
    db: Database
    vault: Vault
    plans: Plans
    limiter: RateLimiter
    passwords: Passwords
    outgoing: SafeClient
    mail: Transport
    metrics: Metrics
    market: Market
    money: Money
    engine: CacheEngine
    files: SharedFiles | None = None
    meter: Meter = field(init=False)
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self)
        self.keys = Keys(self.db)

    @property
    def reads_are_local(self) -> bool:
        """True when the database and every cache tier are SQLite files or memory: a read is then quick and never waits
        for another machine."""
        return self.db.is_sqlite and self.engine.is_local

    def identify(self, request: Request) -> Principal:
        """Who sent this request; an unknown or dead credential makes an anonymous caller."""
        return credentials.identify(self, request)

    def close(self) -> None:
        """Write what is pending and return connections."""
        self.meter.flush(everything=True)
        self.engine.close()
        if self.files is not None:
            self.files.close()
        self.keys.close()
        self.db.close()


def build_service(settings: Settings, *, clock: Clock | None = None, outgoing: SafeClient | None = None) -> Service:
    """Assemble the parts the settings ask for. Opens no connection yet."""
    clock, db = clock or SystemClock(), Database(settings.database_url)
    vault, plans = load_vault(settings), load_plans(settings)
    engine, files = CacheEngine(settings, semantic_of(settings)), shared_files(settings)
    market = build_market(settings, plans, engine, files)
    effects = {SALE: SalePayments(market.rates.dispute_fee)}
    return Service(
        settings=settings,
        clock=clock,
        db=db,
        vault=vault,
        plans=plans,
        limiter=RateLimiter(settings),
        passwords=Passwords(),
        outgoing=outgoing or SafeClient(allow=settings.outgoing_allow),
        mail=build_transport(settings, files),
        metrics=Metrics(),
        market=market,
        money=build_money(settings, db, clock, vault=vault, plans=plans, effects=effects),
        engine=engine,
        files=files,
    )


def service_of(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service
