"""The async conduct of one call: from the cache, from a flight in progress, or from upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

from agentcache_adapters.http.aflight import AsyncFlight, AsyncLiveBody, AsyncReplayedBody, AsyncSource
from agentcache_adapters.http.exchange import (
    Found,
    Opened,
    Outcome,
    Pace,
    Reply,
    annotated,
    hit_headers,
    not_cached,
)
from agentcache_adapters.http.keeping import AsyncKeep, credentials_secret
from agentcache_adapters.http.messages import HttpCall
from agentcache_adapters.http.plan import Plan, plan
from agentcache_adapters.http.recorder import Recorder
from agentcache_adapters.http.rules import CacheRules
from agentcache_adapters.http.sharing import OpenFlights
from agentcache_core import AsyncCache, Cache
from agentcache_core.errors import KeyingError

AsyncSend = Callable[[], Awaitable[Opened[AsyncSource]]]
_FLIGHTS: OpenFlights[AsyncFlight] = OpenFlights()


class AsyncConduct:
    """What an async transport does with a call. `send` sends it upstream; everything else happens here.

    It runs on asyncio. Under another event loop every call passes through untouched, with that as the reason.
    """

    def __init__(
        self,
        cache: Cache | AsyncCache,
        *,
        rules: CacheRules | None = None,
        secret: bytes | None = None,
        pace: Pace = "full",
        annotate: bool = True,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.rules = rules or CacheRules()
        self._keep = AsyncKeep(cache)
        self._secret = credentials_secret(self._keep.cache) if secret is None else secret
        self._annotate, self._now = annotate, now
        self._sleep = sleep if pace == "recorded" else None

    async def answer(self, call: HttpCall, send: AsyncSend) -> Reply[AsyncSource]:
        """The reply to `call`, from wherever it comes. Raises what `send` raises."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return await self._bypass(send, "the event loop is not asyncio's")
        made = plan(call, self.rules, secret=self._secret)
        if made.request is None:
            return await self._bypass(send, made.bypass)
        try:
            return await self._serve(made, call, send, loop)
        except KeyingError as error:
            return await self._bypass(send, f"the request has no key: {error}")

    async def _bypass(self, send: AsyncSend, reason: str) -> Reply[AsyncSource]:
        self._keep.bypassed(reason)
        return self._passed(await send(), "bypass", reason)

    async def _serve(self, made: Plan, call: HttpCall, send: AsyncSend, loop: object) -> Reply[AsyncSource]:
        wish = made.directives
        while True:
            landed = _FLIGHTS.landed
            if not (wish.no_cache or wish.refresh) and (hit := await self._keep.find(made)) is not None:
                return self._replayed(hit)
            if wish.only_if_cached:
                return self._replayed(Found(not_cached()), "miss")
            if wish.no_store:
                return self._passed(await send(), "miss", "no-store")
            identity = self._identity(made, call, loop)
            if wish.joins and _FLIGHTS.landed_since(landed, identity):
                continue  # this very flight has landed since our look-up: look once more before taking off
            flight = self._flight(made, identity)
            if not wish.joins:
                return await self._lead(made, flight, send)
            flight, leader = _FLIGHTS.join(identity, flight)
            if leader:
                return await self._lead(made, flight, send)
            if flight.board():
                reply = await self._read(flight, leader=False, patience=call.patience)
                if reply is not None:
                    self._keep.joined()
                    return reply
            _FLIGHTS.close(identity, flight)

    def _identity(self, made: Plan, call: HttpCall, loop: object) -> Hashable:
        assert made.request is not None
        # Readers of one flight get the bytes as they came, so they must have asked for the same encodings.
        return (self._keep.identity(made.request), call.header("accept-encoding"), loop)

    def _flight(self, made: Plan, identity: Hashable) -> AsyncFlight:
        started = self._now()
        return AsyncFlight(
            lambda opened: Recorder(made, opened.head, started=started),
            settle=lambda flight, outcome: self._keep.settle(made, outcome, flight.began),
            landed=lambda flight: _FLIGHTS.land(identity, flight),
            now=self._now,
        )

    async def _lead(self, made: Plan, flight: AsyncFlight, send: AsyncSend) -> Reply[AsyncSource]:
        async def begun() -> Opened[AsyncSource]:
            flight.began = await self._keep.begin(made)
            return await send()

        flight.depart(begun)
        reply = await self._read(flight, leader=True)
        assert reply is not None  # a leader has all the patience its own call has
        return reply

    async def _read(
        self, flight: AsyncFlight, *, leader: bool, patience: float | None = None
    ) -> Reply[AsyncSource] | None:
        try:
            opened = await flight.opened(leader=leader, patience=patience)
        except BaseException:
            await flight.leave()
            raise
        if opened is None:
            await flight.leave()
            return None
        headers = annotated(opened.head.headers, "miss" if leader else "joined", annotate=self._annotate)
        return Reply(opened.head.status, headers, AsyncLiveBody(flight), opened.extensions)

    def _passed(self, opened: Opened[AsyncSource], outcome: Outcome, reason: str) -> Reply[AsyncSource]:
        headers = annotated(opened.head.headers, outcome, reason, annotate=self._annotate)
        return Reply(opened.head.status, headers, opened.source, opened.extensions)

    def _replayed(self, hit: Found, outcome: Outcome = "hit") -> Reply[AsyncSource]:
        headers = hit_headers(hit, outcome, annotate=self._annotate)
        return Reply(hit.recording.status, headers, AsyncReplayedBody(hit.recording.parts(), self._sleep))
