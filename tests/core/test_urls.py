"""Storage URLs: taken apart safely, and refused with a message that says how to mend them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentcache_core.errors import ConfigurationError
from agentcache_core.units import parse_duration, parse_size
from agentcache_core.urls import Options, installed_schemes, load_scheme, open_backend, parse_url


def test_a_url_is_taken_apart_and_decoded() -> None:
    url = parse_url("rediss://us%40er:p%2Fw@cache.example:6380/2?timeout=1s&prefix=a%20b")
    assert (url.scheme, url.host, url.port, url.path) == ("rediss", "cache.example", 6380, "/2")
    assert (url.username, url.password) == ("us@er", "p/w")
    assert dict(url.options) == {"timeout": "1s", "prefix": "a b"}


def test_a_password_never_shows() -> None:
    url = parse_url("redis://user:secret-word@host:1/0?password=secret-word")
    assert "secret-word" not in repr(url)
    assert "secret-word" not in url.shown
    with pytest.raises(ConfigurationError) as caught:
        parse_url("redis://user:secret-word@host:99999999/0")
    assert "secret-word" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        parse_url("user:secret-word@host")
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "cache.db", "sqlite:/x", 5, None])
def test_what_is_no_url_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ConfigurationError, match="looks like"):
        parse_url(text)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("text", ["redis://h:port/0", "redis://h/0?a", "redis://h/0?a=1&a=2", "redis://[::1/0"])
def test_a_malformed_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"malformed|twice"):
        parse_url(text)


def test_an_unknown_scheme_lists_those_installed() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown storage scheme nosuch://; installed: .*sqlite://"):
        open_backend("nosuch://place")


def test_an_uninstalled_scheme_names_what_would_add_it() -> None:
    assert "gs" not in installed_schemes(), "this test needs a scheme whose package is absent"
    with pytest.raises(ConfigurationError, match=r"gs:// needs the package gcsfs: pip install 'gcsfs'"):
        load_scheme("gs")


def test_options_are_read_by_type() -> None:
    options = Options(parse_url("x://h/p?a=text&b=two&c=yes&d=7&e=16KiB&f=250ms"))
    assert options.text("a") == "text"
    assert options.choice("b", ("one", "two"), "one") == "two"
    assert options.flag("c", False) is True
    assert options.integer("d", 1) == 7
    assert options.size("e") == 16384
    assert options.duration("f", 1.0) == 0.25
    assert (options.text("z", "d"), options.size("y"), options.integer("w", 4)) == ("d", None, 4)
    options.finish()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("choice=three", "option choice of x:// must be one of one, two, got 'three'"),
        ("flag=perhaps", "option flag of x://"),
        ("integer=-1", "whole number of at least 0"),
        ("integer=1.5", "whole number"),
        ("size=-5", "number of bytes"),
        ("size=0", "at least 1 bytes"),
        ("size=5XB", "number of bytes"),
        ("duration=soon", "option duration of x:// must be seconds"),
        ("duration=0", "more than 0 seconds"),
        ("other=1", r"unknown option other in x://h/p; x:// knows choice, duration, flag, integer, size"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(query: str, complaint: str) -> None:
    options = Options(parse_url(f"x://h/p?{query}"))

    def read() -> None:
        options.choice("choice", ("one", "two"), "one")
        options.flag("flag", False)
        options.integer("integer", 0)
        options.size("size")
        options.duration("duration", 1.0)
        options.finish()

    with pytest.raises(ConfigurationError, match=complaint):
        read()


@pytest.mark.parametrize(
    ("written", "size"),
    [(0, 0), ("512", 512), ("16KiB", 16384), ("256MB", 256_000_000), ("1.5 GiB", 3 * 2**29), ("1kb", 1000)],
)
def test_sizes_are_read_as_people_write_them(written: str | int, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", [-1, "-1", "", "KB", "1 parsec", "nan", 1.5, None, True, "1e9", "٣KB"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ConfigurationError, match="limit must be a number of bytes"):
        parse_size(written, "limit")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5.0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120.0),
        ("250ms", 0.25),
        ("90s", 90.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("3d", 259200.0),
        ("2w", 1209600.0),
        ("1.5s", 1.5),
        ("7", 7.0),
    ],
)
def test_durations_are_read_as_people_write_them(written: str | float | timedelta, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", [-1, "-1s", "", "s", "5 fortnights", float("nan"), float("inf"), timedelta(-1), None, True, "5M"]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ConfigurationError, match="ttl must be seconds"):
        parse_duration(written, "ttl")  # type: ignore[arg-type]  # wrong on purpose
