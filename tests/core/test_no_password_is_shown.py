"""A password in a storage URL, escaped or not, wherever it stands, is in no error, repr, event or figure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from agentcache_core import AsyncCache, Cache, Tier
from agentcache_core.errors import AgentCacheError, ConfigurationError
from agentcache_core.urls import open_backend, parse_url, shown_url

MARK = "zq7rvx"
LOCAL = ("file", "memory", "sqlite", "unix")
SCHEMES = (*LOCAL, "redis", "rediss", "s3", "gs", "az", "fsspec", "agentcache+https", "other")
OPENED = ("redis", "rediss", "unix", "s3", "memory", "agentcache+https", "other")
"""Schemes that can be opened here without touching a network or a disk."""
PLACES = (
    "{scheme}://:{password}@127.0.0.1:1/0",
    "{scheme}://user:{password}@127.0.0.1:1/0",
    "{scheme}://user:{password}@bucket/folder",
    "{scheme}://{password}@127.0.0.1:1/0",
    "{scheme}://:{password}@127.0.0.1:1/0?timeout=soon",
    "{scheme}://127.0.0.1:1/0?password={password}",
    "{scheme}://bucket/folder?key={password}&secret={password}",
    "{scheme}://bucket?timeout=soon&token={password}",
    "{scheme}://bucket?secret={password}&timeout=soon",
    "{scheme}://ftp/user:{password}@host/folder",
    "{scheme}:/:{password}@host",
    "{scheme}//:{password}@host",
    "{scheme}:user:{password}@host",
    "{scheme}://:{password}",
    "user:{password}@{scheme}://host",
)


@st.composite
def passwords(draw: st.DrawFn) -> str:
    """A text around a mark, as people paste it: with what has a meaning in URLs, or letters, or anything."""
    around = st.lists(
        st.one_of(st.sampled_from("/?#@:&=%+;,[]\\ .-~$'\"0129"), st.just(MARK), st.characters(codec="utf-8")),
        max_size=8,
    ).map("".join)
    return draw(around) + MARK + draw(around)


def _said(url: str, scheme: str) -> Iterator[str]:
    """Everything that is ever said of a URL."""
    yield shown_url(url)
    yield repr(Tier(url, max_value="1KiB"))
    try:
        yield repr(parse_url(url)) + parse_url(url).shown
        if scheme in OPENED:
            yield repr(open_backend(url))
            open_backend(url, face="async")
    except AgentCacheError as error:
        yield from _told(error)


def _told(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error) + repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=30)
@given(place=st.sampled_from(PLACES), password=passwords(), escaped=st.booleans())
@example(place=PLACES[0], password=f"12/{MARK}", escaped=False)
@example(place=PLACES[2], password=f"1/{MARK}", escaped=False)
@example(place=PLACES[0], password=f"1?{MARK}=1", escaped=False)
@example(place=PLACES[0], password=f"1#{MARK}", escaped=False)
@example(place=PLACES[0], password=f"a@b/{MARK}", escaped=False)
@example(place=PLACES[3], password=f"a/{MARK}", escaped=False)
@example(place=PLACES[3], password=f"/{MARK}", escaped=False)
@example(place=PLACES[8], password=f"a&{MARK}=b", escaped=False)
@example(place=PLACES[8], password=f"a&anon={MARK}", escaped=False)
@example(place=PLACES[13], password=f"1/{MARK}", escaped=False)
def test_a_password_is_never_shown(scheme: str, place: str, password: str, escaped: bool) -> None:
    url = place.format(scheme=scheme, password=quote(password, safe="") if escaped else password)
    assume(scheme not in LOCAL or place != PLACES[3] or not url.partition("://")[2].startswith("/"))  # that is a path
    for text in _said(url, scheme):
        assert MARK not in text.casefold(), (url, text)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{MARK}@127.0.0.1:1/0",
        f"redis://:12%2F{MARK}@127.0.0.1:1/0",
        "redis://127.0.0.1:1/0?prefix=p&timeout=100ms",
        f"s3://key:{MARK}@bucket/folder?endpoint=http://127.0.0.1:1",
        f"s3://bucket/folder?key=k&secret={MARK}&endpoint=http://127.0.0.1:1",
    ],
)
def test_a_cache_that_is_opened_with_a_password_does_not_show_it(url: str) -> None:
    said: list[str] = []
    with Cache(["memory://", url], deadline="5s", maintenance="manual", background=False) as cache:
        cache.events.subscribe(lambda event: said.append(repr(event)))
        cache.get("k")
        cache.set("k", 1)
        said += [repr(cache), repr(cache.stats()), repr(cache.tenant("t").stats())]
    with suppress(AgentCacheError), Cache(url, deadline="5s", strict=True) as strict:
        try:
            strict.set("k", 1)
        except AgentCacheError as error:
            said += ["".join(traceback.format_exception_only(error)), *_told(error)]
    said.append(repr(AsyncCache(url)))
    assert any("backend_error" in text for text in said)
    assert not [text for text in said if MARK in text.casefold()]


def test_what_is_well_formed_is_shown_whole_but_for_its_credentials() -> None:
    shown = {
        "redis://user:pass@cache.example:6380/2?timeout=1s": "redis://cache.example:6380/2",
        "redis://:p%40ss%2Fword@[::1]:1/0": "redis://[::1]:1/0",
        "redis://:6379/0": "redis://:6379/0",
        "s3://bucket/some/folder?region=eu": "s3://bucket/some/folder",
        "s3://bucket/a%40b": "s3://bucket/a@b",
        "sqlite:///relative@home.db": "sqlite:///relative@home.db",
        "file:///srv/a@b/cache": "file:///srv/a@b/cache",
        "unix:///run/redis.sock?db=1": "unix:///run/redis.sock",
    }
    assert {url: shown_url(url) for url in shown} == shown
    assert repr(Tier("redis://:pw@h:1/0", max_value="1KiB")) == "Tier('redis://h:1/0', max_value='1KiB')"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:12/word@host/0", "%2F"),
        ("redis://:pass@word/more@host/0", "%2F"),
        ("s3://bucket/folder@home", "%40"),
        ("redis://:a#b@host", "%23"),
        ("redis://host:1/0?password=a@b", "%40"),
    ],
)
def test_an_ambiguous_url_is_refused_with_what_to_write_instead(url: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=f"malformed.*{remedy}"):
        parse_url(url)
