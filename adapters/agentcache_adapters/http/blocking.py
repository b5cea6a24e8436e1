"""The blocking conduct of one call: from the cache, from a flight in progress, or from upstream."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

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
from agentcache_adapters.http.flight import Flight, LiveBody, ReplayedBody, Source
from agentcache_adapters.http.keeping import BlockingKeep, credentials_secret
from agentcache_adapters.http.messages import HttpCall
from agentcache_adapters.http.plan import Plan, plan
from agentcache_adapters.http.recorder import Recorder
from agentcache_adapters.http.rules import CacheRules
from agentcache_adapters.http.sharing import OpenFlights
from agentcache_core import AsyncCache, Cache
from agentcache_core.errors import KeyingError

Send = Callable[[], Opened[Source]]
_FLIGHTS: OpenFlights[Flight] = OpenFlights()


class BlockingConduct:
    """What a blocking transport does with a call. `send` sends it upstream; everything else happens here.

    `secret` keys the digest of credentials; by default it is derived from the cache's own secret and tenant.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rules = rules or CacheRules()
        self._keep = BlockingKeep(cache)
        self._secret = credentials_secret(self._keep.cache) if secret is None else secret
        self._annotate, self._now = annotate, now
        self._sleep = sleep if pace == "recorded" else None

    def answer(self, call: HttpCall, send: Send) -> Reply[Source]:
        """The reply to `call`, from wherever it comes. Raises what `send` raises."""
        made = plan(call, self.rules, secret=self._secret)
        try:
            return self._bypass(send, made.bypass) if made.request is None else self._serve(made, call, send)
        except KeyingError as error:
            return self._bypass(send, f"the request has no key: {error}")

    def _bypass(self, send: Send, reason: str) -> Reply[Source]:
        self._keep.bypassed(reason)
        return self._passed(send(), "bypass", reason)

    def _serve(self, made: Plan, call: HttpCall, send: Send) -> Reply[Source]:
        wish = made.directives
        while True:
            landed = _FLIGHTS.landed
            if not (wish.no_cache or wish.refresh) and (hit := self._keep.find(made)) is not None:
                return self._replayed(hit)
            if wish.only_if_cached:
                return self._replayed(Found(not_cached()), "miss")
            if wish.no_store:
                return self._passed(send(), "miss", "no-store")
            identity = self._identity(made, call)
            flight = self._flight(made, identity)
            if not wish.joins:
                return self._lead(made, flight, send)
            flight, leader = _FLIGHTS.join(identity, flight)
            if leader:
                try:
                    # Another flight may have landed between our look-up and this one's take-off.
                    if _FLIGHTS.landed_since(landed, identity) and (hit := self._keep.find(made)) is not None:
                        return self._replayed(hit)
                    return self._lead(made, flight, send)
                finally:
                    flight.abandon()  # if nothing came of it, for whatever reason, somebody else must lead
            reply = self._follow(flight, call.patience)
            if reply is not None:
                return reply
            _FLIGHTS.close(identity, flight)

    def _identity(self, made: Plan, call: HttpCall) -> Hashable:
        assert made.request is not None
        # Readers of one flight get the bytes as they came, so they must have asked for the same encodings.
        return (self._keep.identity(made.request), call.header("accept-encoding"))

    def _flight(self, made: Plan, identity: Hashable) -> Flight:
        started = self._now()
        return Flight(
            lambda opened: Recorder(made, opened.head, started=started),
            settle=lambda flight, outcome: self._keep.settle(made, outcome, flight.began),
            landed=lambda flight: _FLIGHTS.land(identity, flight),
            now=self._now,
        )

    def _lead(self, made: Plan, flight: Flight, send: Send) -> Reply[Source]:
        flight.began = self._keep.begin(made)
        return self._live(flight, flight.open(send), "miss")

    def _follow(self, flight: Flight, patience: float | None) -> Reply[Source] | None:
        if not flight.board():
            return None
        try:
            opened = flight.opened(patience)
        except BaseException:
            flight.leave()
            raise
        if opened is None:
            flight.leave()
            return None
        self._keep.joined()
        return self._live(flight, opened, "joined")

    def _live(self, flight: Flight, opened: Opened[Source], outcome: Outcome) -> Reply[Source]:
        headers = annotated(opened.head.headers, outcome, annotate=self._annotate)
        return Reply(opened.head.status, headers, LiveBody(flight), opened.extensions)

    def _passed(self, opened: Opened[Source], outcome: Outcome, reason: str) -> Reply[Source]:
        headers = annotated(opened.head.headers, outcome, reason, annotate=self._annotate)
        return Reply(opened.head.status, headers, opened.source, opened.extensions)

    def _replayed(self, hit: Found, outcome: Outcome = "hit") -> Reply[Source]:
        headers = hit_headers(hit, outcome, annotate=self._annotate)
        return Reply(hit.recording.status, headers, ReplayedBody(hit.recording.parts(), self._sleep))
