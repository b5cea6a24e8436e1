"""What both faces of a cache share: one space of one engine, and the words of its callers turned into wishes."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.registered import serializers_for
from agentcache_core.codec.serialize import Serializer
from agentcache_core.core import Core
from agentcache_core.errors import AgentCacheError, CacheClosed, ConfigurationError
from agentcache_core.events import Events, TenantEvents
from agentcache_core.invalidation import SOURCE, ByNamespace, ByPattern, ByRequest, ByTag, Selector
from agentcache_core.keys import Key
from agentcache_core.model import DEFAULT_CONTROL, CacheControl, Cost
from agentcache_core.opening import Specs, signed_in
from agentcache_core.policy.freshness import FOREVER, Duration, lifetime, seconds_of
from agentcache_core.runtime import Face
from agentcache_core.settings import Settings
from agentcache_core.space import Space
from agentcache_core.spec import bytes_of
from agentcache_core.stats import Stats, snapshot, tier_stats
from agentcache_core.straight import Straight, straight_way
from agentcache_core.wish import DEFAULT_WISH, Wish

if TYPE_CHECKING:
    from agentcache_core.tools.toolbox import Tools

V = TypeVar("V", bound="View")


class View:
    """One namespace of one tenant, as its face sees it. Built by `Cache` and `AsyncCache`."""

    _face: Face

    def __init__(
        self,
        tiers: Specs = "memory://",
        *,
        tenant: str = "",
        namespace: str = "",
        semantic: Any = None,
        mode: str = "live",
        ttl: Duration | None = None,
        secret: bytes | str | None = None,
        keyring: Keyring | None = None,
        api_key: str | None = None,
        max_staleness: Duration = "5s",
        deadline: Duration = "250ms",
        inline_max: int | str = "16KiB",
        strict: bool = False,
        background: bool = True,
        maintenance: str = "auto",
        serializers: Sequence[Serializer] = (),
        clock: Clock | None = None,
    ) -> None:
        tiers, tenant = signed_in(tiers, api_key=api_key, tenant=tenant, namespace=namespace)
        if not isinstance(serializers, list | tuple):
            raise ConfigurationError(f"serializers is a list of serializers, got {type(serializers).__name__}")
        settings = Settings(
            clock=SYSTEM_CLOCK if clock is None else clock,
            lifetime=lifetime(ttl),
            mode=mode,  # type: ignore[arg-type]  # Settings refuses any other word
            secret=secret.encode() if isinstance(secret, str) else secret,
            keyring=keyring,
            max_staleness=seconds_of(max_staleness, name="max_staleness"),
            deadline=seconds_of(deadline, name="deadline"),
            inline_max=bytes_of(inline_max, "inline_max") or 0,
            strict=strict,
            background=background,
            maintenance=maintenance,  # type: ignore[arg-type]  # likewise
            serializers=tuple(serializers),
        )
        self._bind(
            Core(tiers, settings, face=self._face, semantic=semantic), tenant, namespace, root=True, walled=False
        )

    def _bind(self, core: Core, tenant: str, namespace: str, *, root: bool, walled: bool) -> None:
        for name, text in (("tenant", tenant), ("namespace", namespace)):
            if not isinstance(text, str):
                raise ConfigurationError(f"{name} must be text, got {type(text).__name__}")
        self._core = core
        self._engine = core.engine
        self._space = space = core.space(tenant, namespace)
        self._root = root
        self._walled = walled
        self._key = space.keys.key
        self._counters = space.counters
        self._now = core.settings.clock.now
        self._monotonic = core.settings.clock.monotonic
        self._local = core.tiers.local
        self._fast = core.fast
        near = core.tiers.near
        self._homes: dict[str, Any] = {}
        self._text: Any = near.home(tenant, namespace, "text") if near is not None else {}
        self._twin: Any = None

    @functools.cached_property
    def _straight(self) -> Straight | None:
        """The straight way of this face, sought on first use: a face that is never asked opens no store."""
        return straight_way(self._engine, self._space, face=self._face, mode=self._core.settings.mode)

    def _like(self: V, tenant: str, namespace: str, *, walled: bool) -> V:
        view = type(self).__new__(type(self))
        view._bind(self._core, tenant, namespace, root=False, walled=walled)
        return view

    def _as(self, face: type[V], *, root: bool) -> V:
        view = face.__new__(face)
        view._bind(self._core, self._space.tenant, self._space.namespace, root=root, walled=self._walled)
        return view

    def _home(self, kind: str) -> Any:
        near = self._core.tiers.near
        assert near is not None
        home = self._homes[kind] = near.home(self._space.tenant, self._space.namespace, kind)
        return home

    # Views

    def tenant(self: V, tenant: str) -> V:
        """A view of another tenant: its own keys, digests, tags and figures. A tenant's view cannot leave it."""
        if self._walled:
            raise AgentCacheError(f"this is a view of tenant {self._space.tenant!r}, which cannot reach another tenant")
        return self._like(tenant, self._space.namespace, walled=True)

    def namespace(self: V, namespace: str) -> V:
        """A view of another namespace of the same tenant."""
        return self._like(self._space.tenant, namespace, walled=self._walled)

    def _for_operators(self) -> None:
        if self._walled:
            raise AgentCacheError(f"this is a view of tenant {self._space.tenant!r}, which cannot reach another tenant")

    # Keys

    def key(self, request: object, *, sample: int = 0) -> Key:
        """The exact key of a request in this view. Raises `KeyingError` where it has no canonical form."""
        return self._key(request, sample=sample)

    def explain(self, request: object) -> Any:
        """What counts in a request's key, what does not, and why (`agentcache_core.keys.explain.Explanation`)."""
        from agentcache_core.keys import explain

        space = self._space
        return explain(request, tenant=space.tenant, namespace=space.namespace, secret=space.secret)

    def diff(self, request_a: object, request_b: object) -> Any:
        """Field by field, why two requests have different keys: a tuple of `FieldDiff`, empty when they do not."""
        from agentcache_core.keys import diff

        return diff(request_a, request_b)

    def distrust(self) -> None:
        """Let no near copy of this namespace be served before the authority has confirmed it once more."""
        self._space.trusted_until = 0.0

    # Tools

    def tools(self, effects: Any = None, *, actor: Any = None) -> Tools:
        """Tool results with declared effects over this view (`agentcache_core.tools.Tools`).

        `effects` is a TOML file, or its parsed content, that declares tools known by name only; `actor` says on whose
        behalf tools are called, a text or a function asked at every call.
        """
        from agentcache_core.tools.toolbox import Tools

        return Tools(self, effects=effects, actor=actor)

    # Words into wishes

    def _open(self) -> None:
        if self._core.closed:
            raise CacheClosed("this cache is closed")

    def _asking(self, control: CacheControl | None) -> Wish:
        """The wish of a look-up, of which nothing is stored."""
        if control is None:
            return DEFAULT_WISH
        return Wish(FOREVER, control=control) if isinstance(control, CacheControl) else self._wish(control=control)

    def _wish(
        self,
        *,
        ttl: Duration | None = None,
        tags: Sequence[str] = (),
        sources: Sequence[str] = (),
        cost: Cost | None = None,
        control: CacheControl | None = None,
        stale_while_revalidate: Duration = 0.0,
        stale_if_error: Duration = 0.0,
        jitter: float = 0.0,
        sliding: bool = False,
        eager: float = 0.0,
        durable: bool = False,
        content_type: str | None = None,
        meta: Mapping[str, Any] | None = None,
        store_if: Callable[[Any], bool] | None = None,
        returns: Any = None,
        **unknown: Any,
    ) -> Wish:
        if unknown:
            raise ConfigurationError(_no_such_option(next(iter(unknown))))
        default = self._core.settings.lifetime
        if ttl is None and not (stale_while_revalidate or stale_if_error or jitter or sliding or eager):
            life = default
        else:
            life = lifetime(
                ttl if ttl is not None else default.ttl,
                stale_while_revalidate=stale_while_revalidate,
                stale_if_error=stale_if_error,
                jitter=jitter,
                sliding=sliding,
                eager=eager,
            )
        for name, given, wanted in (("control", control, CacheControl), ("cost", cost, Cost)):
            if given is not None and not isinstance(given, wanted):
                raise ConfigurationError(f"{name} takes a {wanted.__name__}(…), got {type(given).__name__}")
        if store_if is not None and not callable(store_if):
            raise ConfigurationError(f"store_if takes a function of the answer, got {type(store_if).__name__}")
        return Wish(
            life,
            _tags(tags, "tags") + tuple(SOURCE + source for source in _tags(sources, "sources")),
            cost,
            control or DEFAULT_CONTROL,
            durable,
            content_type,
            dict(meta or {}),
            store_if=store_if,
            serializers=() if returns is None else serializers_for(returns),
        )

    def _selected(
        self,
        tag: str | None,
        pattern: str | None,
        namespace: str | None,
        source: str | None,
        request: Mapping[str, Any],
    ) -> tuple[Space, Selector]:
        """The one selector given. `request` holds it under that name where it was given, for None is a request too."""
        chosen = {"tag": tag, "pattern": pattern, "namespace": namespace, "source": source}
        chosen = {name: value for name, value in chosen.items() if value is not None} | dict(request)
        unknown = set(request) - {"request"}
        if len(chosen) != 1 or unknown:
            raise ConfigurationError(
                "invalidate takes exactly one of tag, pattern, namespace, source and request; "
                f"got {' and '.join(chosen) or 'none'}"
            )
        if request:
            return self._space, ByRequest(self._key(request["request"]))
        (name, value), *_ = chosen.items()
        if not isinstance(value, str):
            raise ConfigurationError(f"invalidate({name}=…) takes text, got {type(value).__name__}")
        if namespace is not None:
            return self._core.space(self._space.tenant, namespace), ByNamespace()
        if not value:
            raise ConfigurationError(f"invalidate({name}='') names nothing; give the {name} that is no longer true")
        if pattern is not None:
            return self._space, ByPattern(pattern)
        return self._space, ByTag(value if tag is not None else SOURCE + value)

    # Figures

    def bypassed(self, reason: str, *, kind: str = "", detail: Mapping[str, Any] | None = None) -> None:
        """Count and tell a call that did not ask the cache, and why: for adapters, which see such calls."""
        space = self._space
        space.counters.bypasses += 1
        space.counters.because(reason)
        self._core.events.tell(
            "bypass", tenant=space.tenant, namespace=space.namespace, kind=kind, reason=reason, detail=detail or {}
        )

    @property
    def events(self) -> Events | TenantEvents:
        """Where to listen: `cache.events.subscribe(function)`. A view of one tenant hears that tenant's events only."""
        space = self._space
        return self._core.events.of(space.tenant, space.namespace) if self._walled else self._core.events

    @property
    def clock(self) -> Clock:
        """The clock this cache goes by."""
        return self._core.settings.clock

    def stats(self) -> Stats:
        """The figures of this namespace in this process, and of the tiers that all views share. A view of one tenant
        is told of the tiers what concerns that tenant (see `TierStats`)."""
        tiers = self._core.tiers
        tenant = self._space.tenant if self._walled else None
        listed = tier_stats(tiers.near, tiers.stored, self._core.spaces, tenant=tenant)
        authority = tiers.authority.name if tiers.authority is not None else "memory"
        space = self._space
        return snapshot(
            space.counters,
            tenant=space.tenant,
            namespace=space.namespace,
            authority=authority,
            tiers=listed,
            pending_invalidations=self._core.invalidation.pending(tenant),
            **({} if self._engine.similar is None else {"semantic": self._engine.similar.figures(space)}),
        )

    def __repr__(self) -> str:
        names = [tier.name for tier in self._core.tiers.stored]
        if self._core.tiers.near is not None:
            names.insert(0, "memory")
        return (
            f"{type(self).__name__}({' > '.join(names)}, tenant={self._space.tenant!r}, "
            f"namespace={self._space.namespace!r})"
        )


def _no_such_option(name: str) -> str:
    """What to say of an option that does not exist, with the one that may have been meant."""
    known = [option for option in inspect.signature(View._wish).parameters if option not in ("self", "unknown")]
    near = difflib.get_close_matches(name, known, 1)
    return f"there is no option {name!r}; {f'did you mean {near[0]!r}?' if near else 'there are ' + ', '.join(known)}"


def _tags(tags: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise ConfigurationError(f"{name} is a list of texts, got the single text {tags!r}; write [{tags!r}]")
    unique = tuple(dict.fromkeys(tags))
    for tag in unique:
        if not isinstance(tag, str) or not tag:
            raise ConfigurationError(f"{name} holds texts of at least one character, got {tag!r}")
    return unique
