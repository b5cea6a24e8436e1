"""From a URL to an open backend: the schemes, the query options, and clear errors for both.

Built-in schemes are found by a static table of module names, others through the entry-point group
`agentcache.backends` (name = scheme, value = module). A backend's module offers one function,
`open_url(url: StoreUrl, *, face) -> Backend | AsyncBackend`; the core imports it only when its scheme is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import MappingProxyType, ModuleType
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.errors import ConfigurationError
from agentcache_core.units import parse_duration, parse_size

Face = Literal["blocking", "async"]
ENTRY_POINTS: Final = "agentcache.backends"
_SEVERAL_HOSTS: Final = "+cluster"  # how the schemes end whose URLs may name several hosts


@dataclass(frozen=True, slots=True)
class _Scheme:
    module: str
    needs: str = ""
    extra: str = ""


_REDIS = _Scheme("agentcache_backends.redis", "redis", "redis")
_FILES = _Scheme("agentcache_backends.filesystem", "fsspec", "fs")
_BUILT_IN: Mapping[str, _Scheme] = MappingProxyType(
    {
        "memory": _Scheme("agentcache_backends.memory"),
        "sqlite": _Scheme("agentcache_backends.sqlite"),
        "redis": _REDIS,
        "rediss": _REDIS,
        "unix": _REDIS,
        "redis+cluster": _REDIS,
        "rediss+cluster": _REDIS,
        "file": _FILES,
        "s3": _Scheme("agentcache_backends.filesystem", "s3fs", "s3"),
        "gs": _Scheme("agentcache_backends.filesystem", "gcsfs", ""),
        "az": _Scheme("agentcache_backends.filesystem", "adlfs", ""),
        "fsspec": _FILES,
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class StoreUrl:
    """A storage URL taken apart. `path` and `options` are percent-decoded; its repr never shows credentials.

    `deadline` is what one call may take, in seconds, where the URL's own `timeout` does not say. `further` are the
    hosts after the first, with their ports, of a scheme that names several (`redis+cluster://a:7000,b:7000`).
    """

    scheme: str
    text: str
    path: str
    host: str = ""
    port: int | None = None
    username: str | None = None
    password: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 0.25
    further: tuple[tuple[str, int | None], ...] = ()

    @property
    def shown(self) -> str:
        """The URL without user name, password and options: what errors, logs and statistics may show."""
        hosts = ",".join(_place(host, port) for host, port in ((self.host, self.port), *self.further))
        return f"{self.scheme}://{hosts}{self.path}"

    def __repr__(self) -> str:
        return f"StoreUrl({self.shown!r})"


def _place(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def parse_url(text: str) -> StoreUrl:
    """Take a storage URL apart. Raises `ConfigurationError` when it has no scheme or is malformed."""
    if not isinstance(text, str) or "://" not in text:
        shown = text.split("@")[-1] if isinstance(text, str) else text
        raise ConfigurationError(
            f'a storage URL looks like "sqlite:///cache.db" or "redis://host:6379/0", got {shown!r}'
        )
    scheme = text.partition("://")[0].lower()
    further: tuple[tuple[str, int | None], ...] = ()
    try:
        first, others = _hosts(text) if scheme.endswith(_SEVERAL_HOSTS) else (text, ())
        parts = urlsplit(first)
        port = parts.port
        further = tuple((other.hostname or "", other.port) for other in (urlsplit(f"//{host}") for host in others))
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigurationError(f"malformed {scheme}:// URL ({_cause(error)})") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ConfigurationError(f"the {scheme}:// URL names an option twice: {', '.join(sorted(n for n, _ in pairs))}")
    return StoreUrl(
        scheme=scheme,
        text=text,
        path=unquote(parts.path),
        host=parts.hostname or "",
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        options=MappingProxyType(options),
        further=further,
    )


def _hosts(text: str) -> tuple[str, Sequence[str]]:
    """A URL that names several hosts: the same with the first alone, and the others."""
    place = re.match(r"[^:]*://[^/?#]*", text)
    assert place is not None  # whoever asks has seen `://`
    credentials, at, hosts = place[0].partition("://")[2].rpartition("@")
    first, *others = hosts.split(",")
    return f"{place[0].partition('://')[0]}://{credentials}{at}{first}{text[place.end() :]}", others


def _cause(error: ValueError) -> str:
    return "its port is not a number from 0 to 65535" if "port" in str(error).lower() else "it cannot be taken apart"


class Options:
    """A reader of a URL's query options that knows which ones exist: `finish` refuses those nobody asked for."""

    __slots__ = ("_known", "_url")

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._known: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """The option as it stands."""
        self._known.append(name)
        return self._url.options.get(name, default)

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """One of `choices`."""
        chosen = self.text(name, default)
        if chosen not in (allowed := tuple(choices)):
            raise ConfigurationError(f"{self._named(name)} must be one of {', '.join(allowed)}, got {chosen!r}")
        return chosen

    def flag(self, name: str, default: bool) -> bool:
        """A truth value: true, false, 1, 0, yes or no."""
        chosen = self.choice(name, ("true", "false", "1", "0", "yes", "no"), "true" if default else "false")
        return chosen in ("true", "1", "yes")

    def integer(self, name: str, default: int, *, least: int = 0) -> int:
        """A whole number of at least `least`."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ConfigurationError(f"{self._named(name)} must be a whole number of at least {least}, got {text!r}")
        return int(text)

    def size(self, name: str, default: int | None = None, *, least: int = 1) -> int | None:
        """A number of bytes, such as 256MB."""
        text = self.text(name)
        if text == "":
            return default
        size = parse_size(text, self._named(name))
        if size < least:
            raise ConfigurationError(f"{self._named(name)} must be at least {least} bytes, got {text!r}")
        return size

    def duration(self, name: str, default: float) -> float:
        """A number of seconds above zero, such as 250ms."""
        text = self.text(name)
        seconds = parse_duration(text, self._named(name)) if text else default
        if seconds <= 0:
            raise ConfigurationError(f"{self._named(name)} must be more than 0 seconds, got {text!r}")
        return seconds

    def finish(self) -> None:
        """Refuse options that were not asked for, naming those that exist."""
        unknown = sorted(set(self._url.options) - set(self._known))
        if unknown:
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)} in {self._url.shown}; "
                f"{self._url.scheme}:// knows {', '.join(sorted(self._known)) or 'none'}"
            )

    def _named(self, name: str) -> str:
        return f"option {name} of {self._url.scheme}://"


def open_backend(text: str, *, face: Face = "blocking", deadline: float = 0.25) -> Backend | AsyncBackend:
    """Open the backend that a URL names, in the form that fits the face.

    `deadline` is what one call may take, in seconds, unless the URL has a `timeout` of its own.
    Raises `ConfigurationError` for an unknown scheme or option and for a missing extra, and a `BackendError` when
    the place itself cannot be used (`ForeignStore`, `BackendReadOnly`, ...).
    """
    url = replace(parse_url(text), deadline=deadline)
    backend: Backend | AsyncBackend = load_scheme(url.scheme).open_url(url, face=face)
    return backend


def load_scheme(scheme: str) -> ModuleType:
    """The module that serves a scheme, imported. Raises `ConfigurationError` when unknown or not installed."""
    if (built_in := _BUILT_IN.get(scheme)) is not None:
        if not _importable(built_in.needs):
            raise ConfigurationError(f"{scheme}:// needs the package {built_in.needs}: {_remedy(built_in)}")
        return importlib.import_module(built_in.module)
    for point in metadata.entry_points(group=ENTRY_POINTS, name=scheme):
        return importlib.import_module(point.value)
    raise ConfigurationError(f"unknown storage scheme {scheme}://; {_what_there_is()}")


def installed_schemes() -> tuple[str, ...]:
    """The schemes that can be opened here and now, sorted."""
    built_in = {name for name, scheme in _BUILT_IN.items() if _importable(scheme.needs)}
    return tuple(sorted(built_in | {point.name for point in metadata.entry_points(group=ENTRY_POINTS)}))


def _importable(package: str) -> bool:
    return not package or importlib.util.find_spec(package) is not None


def _remedy(scheme: _Scheme) -> str:
    return f"pip install '{f'agentcache[{scheme.extra}]' if scheme.extra else scheme.needs}'"


def _what_there_is() -> str:
    installed = installed_schemes()
    absent: dict[str, list[str]] = {}
    for name, scheme in _BUILT_IN.items():
        if name not in installed:
            absent.setdefault(_remedy(scheme), []).append(f"{name}://")
    offers = "".join(f"; {', '.join(names)} with {remedy}" for remedy, names in absent.items())
    return f"installed: {', '.join(f'{name}://' for name in installed)}{offers}"
