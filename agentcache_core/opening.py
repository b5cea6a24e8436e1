"""From what a user wrote to open tiers: URLs, `Tier`s and backend instances, checked once, with clear errors."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import ConfigurationError
from agentcache_core.events import Events
from agentcache_core.guarding import AsyncGuarded, Circuit, Guarded
from agentcache_core.near import NearTier
from agentcache_core.runtime import Face
from agentcache_core.settings import DEADLINE, Settings
from agentcache_core.space import Space
from agentcache_core.spec import Tier
from agentcache_core.tier import StoredTier
from agentcache_core.tiering import Tiers
from agentcache_core.urls import Options, StoreUrl, load_scheme, open_backend, parse_url

Specs = Any
"""A URL, a `Tier`, a backend, or a list of these."""


def open_tiers(specs: Specs, settings: Settings, events: Events, *, face: Face) -> Tiers:
    """The tiers a cache was asked for, hottest first. Raises `ConfigurationError` where they cannot work together."""
    listed = list(specs) if isinstance(specs, list | tuple) else [specs]
    if not listed:
        raise ConfigurationError('tiers must name at least one, such as Cache("memory://")')
    near: NearTier | None = None
    stored: list[StoredTier] = []
    for position, given in enumerate(listed):
        spec = given if isinstance(given, Tier) else Tier(given)
        source = spec.url_or_backend
        if _is_memory(source):
            if position:
                raise ConfigurationError("memory:// must be the first tier, and there can be only one")
            near = _open_memory(spec)
        else:
            stored.append(_stored_tier(spec, settings, events, face, taken={tier.name for tier in stored}))
    return Tiers(near, stored, clock=settings.clock, events=events, max_staleness=settings.max_staleness, face=face)


def signed_in(specs: Specs, *, api_key: str | None, tenant: str, namespace: str) -> tuple[Specs, str]:
    """The tiers with their credentials in place, and the tenant to compute keys with.

    A scheme that leads to a service offers `sign_in`, which takes the key and tells whose it is; others have no use
    for a key. Raises `ConfigurationError` when a key is given and no tier takes it.
    """
    listed = list(specs) if isinstance(specs, list | tuple) else [specs]
    taken = False
    for position, given in enumerate(listed):
        text = given.url_or_backend if isinstance(given, Tier) else given
        if not isinstance(text, str) or not text.lower().startswith("agentcache+"):
            continue
        url = parse_url(text)
        opened, tenant = load_scheme(url.scheme).sign_in(url, api_key=api_key, namespace=namespace, tenant=tenant)
        listed[position] = replace(given, url_or_backend=opened) if isinstance(given, Tier) else opened
        taken = True
    if api_key is not None and not taken:
        raise ConfigurationError("api_key is for agentcache+https:// tiers; none of the tiers takes one")
    return (listed if taken else specs), tenant


def _is_memory(source: Any) -> bool:
    if isinstance(source, str):
        return source.partition("://")[0].lower() == "memory"
    return hasattr(source, "homes") and hasattr(source, "size_bytes")


def _open_memory(spec: Tier) -> NearTier:
    source: Any = spec.url_or_backend
    if spec != Tier(source):
        raise ConfigurationError(
            "memory:// has no limits of single answers: it drops by itself what is used least; bound it in its URL "
            '("memory://?max_bytes=256MB&max_entries=100000") and give limits to the other tiers'
        )
    opened: Any = open_backend(source) if isinstance(source, str) else source
    return opened  # type: ignore[no-any-return]  # a memory URL opens a NearTier, which is no backend


def _deadline(url: StoreUrl, settings: Settings) -> float:
    """What a call may take on the store of a URL: its own `timeout`; else what its scheme suggests, where the cache was
    left at the usual deadline; else that of the cache."""
    deadline = settings.deadline
    if deadline == DEADLINE:
        deadline = getattr(load_scheme(url.scheme), "DEADLINE", deadline)
    return Options(url).duration("timeout", deadline)


def _stored_tier(spec: Tier, settings: Settings, events: Events, face: Face, *, taken: set[str]) -> StoredTier:
    source = spec.url_or_backend
    deadline = settings.deadline
    if isinstance(source, str):
        url = parse_url(source)
        name, deadline = url.shown, _deadline(url, settings)

        def open_store(wanted: Face) -> Any:
            return open_backend(source, face=wanted, deadline=deadline)
    else:
        name = type(source).__name__
        kind: Face = "async" if inspect.iscoroutinefunction(getattr(source, "get", None)) else "blocking"
        if not all(callable(getattr(source, verb, None)) for verb in ("get", "put", "delete", "scan", "close")):
            raise ConfigurationError(f"a tier is a URL, a Tier or a backend, got {type(source).__name__}")

        def open_store(wanted: Face) -> Any:
            if wanted == kind:
                return source
            if wanted == "async":
                raise ConfigurationError(
                    f"{name} is a blocking backend; give an AsyncCache in_threads({name}(…)) instead"
                )
            raise ConfigurationError(f"{name} is an async backend; use it with AsyncCache, or give Cache a URL")

    while name in taken:
        name += "'"

    circuit = Circuit(
        name,
        deadline=deadline,
        monotonic=settings.clock.monotonic,
        told=lambda happened: events.tell(happened, tier=name),
    )

    def open_guarded(wanted: Face) -> Any:
        store = open_store(wanted)
        return Guarded(store, circuit) if wanted == "blocking" else AsyncGuarded(store, circuit)

    def make_pipeline(space: Space) -> Pipeline:
        return Pipeline(tenant=space.tenant, secret=settings.secret, keyring=settings.keyring)

    tier = StoredTier(
        spec,
        name=name,
        open_store=open_guarded,
        make_pipeline=make_pipeline,
        events=events,
        now=settings.clock.now,
        inline_max=settings.inline_max,
        circuit=circuit,
    )
    tier.store(face)
    return tier
