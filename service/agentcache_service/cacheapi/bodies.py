"""What the cache calls take and answer, as models: the shapes of the contract."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictBool, model_validator

from agentcache_service.cacheapi import calls
from agentcache_service.wire import Body, Done, Number, Whole

MAX_TTL = calls.LONGEST_TTL


class Addressed(Body):
    """What names an entry: a plain key, or a provider and its request."""

    key: str | None = Field(default=None, min_length=1, max_length=2048)
    provider: str | None = Field(default=None, max_length=100)
    request: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Addressed:
        if (self.key is None) == (self.request is None):
            raise ValueError("give either key, or provider and request")
        if (self.provider is None) != (self.request is None):
            raise ValueError("provider and request belong together")
        return self

    @property
    def address(self) -> object:
        """What the engine keys: identical to the same request in an embedded cache."""
        return self.key if self.request is None else {"provider": self.provider, **self.request}


class GetBody(Addressed):
    """A look-up."""

    max_age: Number | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="seconds; nothing older is answered"
    )
    semantic: StrictBool | None = Field(
        default=None, description="false: exact matches only; true: refused where answers by meaning cannot be had"
    )


class CostBody(Body):
    """What computing the value cost: told back, summed up, when the cache saves it."""

    usd_micros: Whole = Field(default=0, ge=0, le=10**12)
    input_tokens: Whole = Field(default=0, ge=0, le=10**9)
    cached_input_tokens: Whole = Field(default=0, ge=0, le=10**9)
    output_tokens: Whole = Field(default=0, ge=0, le=10**9)
    seconds: Number = Field(default=0.0, ge=0, le=10**6)


class SetBody(Addressed):
    """A value to be stored: `value` with a key, `response` with a request."""

    value: Any = None
    response: Any = None
    encoding: str | None = Field(default=None, description='"base64" where the value is bytes')
    ttl: Number | None = Field(default=None, gt=0, le=MAX_TTL, description="seconds", examples=[604800])
    tags: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=50)
    sources: list[Annotated[str, Field(min_length=1, max_length=2048)]] = Field(default_factory=list, max_length=50)
    cost: CostBody | None = None
    content_type: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _one_value(self) -> SetBody:
        wanted, other = ("value", "response") if self.request is None else ("response", "value")
        if wanted not in self.model_fields_set or other in self.model_fields_set:
            raise ValueError(f"this form of set takes {wanted!r}")
        return self


class InvalidateBody(Body):
    """Exactly one selector; `older_than` (seconds) narrows any of them."""

    key: str | None = Field(default=None, min_length=1, max_length=2048)
    keys: list[Annotated[str, Field(min_length=1, max_length=2048)]] | None = Field(default=None, max_length=1000)
    pattern: str | None = Field(default=None, min_length=1, max_length=2048)
    tag: str | None = Field(default=None, min_length=1, max_length=200)
    namespace: str | None = Field(default=None, min_length=1, max_length=64)
    url: str | None = Field(default=None, min_length=1, max_length=2048)
    provider: str | None = Field(default=None, max_length=100)
    request: dict[str, Any] | None = None
    older_than: Number | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_selector(self) -> InvalidateBody:
        given = [
            name
            for name in ("key", "keys", "pattern", "tag", "namespace", "url", "request")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(f"give exactly one of key, keys, pattern, tag, namespace, url, request; got {given}")
        return self


class SetAnswer(Done):
    """Stored."""

    key: str
    bytes: int
    deduplicated: bool = Field(description="the same content was there already, in your own organization")
    expires_at: datetime | None


class Saved(BaseModel):
    """What the hit saved."""

    usd_micros: int
    input_tokens: int
    output_tokens: int
    seconds: float
    bytes: int


class HitAnswer(BaseModel):
    """A hit, or only `{"hit": false}`."""

    hit: bool
    value: Any = None
    encoding: str | None = None
    how: str | None = Field(default=None, description='"exact" or "semantic"')
    similarity: float | None = None
    age_s: float | None = None
    ttl_s: float | None = None
    freshness: str | None = Field(default=None, description='"fresh", "stale" or "expired"')
    saved: Saved | None = None


class Invalidated(BaseModel):
    """How many entries it concerned."""

    invalidated: int
