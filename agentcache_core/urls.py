"""From a URL to an open backend: the schemes, the query options, and clear errors for both.

Built-in schemes are found by a static table of module names, others through the entry-point group
`agentcache.backends` (name = scheme, value = module). A backend's module offers one function,
`open_url(url: StoreUrl, *, face) -> Backend | AsyncBackend`; the core imports it only when its scheme is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import MappingProxyType, ModuleType
from typing import Final, Literal, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.errors import ConfigurationError
from agentcache_core.units import parse_duration, parse_size

Face = Literal["blocking", "async"]
N = TypeVar("N", int, float)
ENTRY_POINTS: Final = "agentcache.backends"
CREDENTIALS: Final = frozenset({"account", "api_key", "key", "password", "secret", "token", "username"})
"""Options that may hold a credential: where one is given, errors show no option's value, nor one nobody knows."""
_LOCAL: Final = frozenset({"file", "memory", "sqlite", "unix"})
_SCHEME: Final = re.compile("[a-z][a-z0-9+.-]*")
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
        """The URL without user name, password and options: what errors, logs and statistics may show. Only its scheme
        where an unescaped character could have put a part of a password elsewhere."""
        parts = urlsplit(self.text)
        if (
            "@" in parts.query
            or ("@" in parts.netloc and self.scheme in _LOCAL)
            or ("@" in parts.path and self.scheme not in _LOCAL)
            or (parts.netloc[:1] == ":" and "@" not in parts.netloc and self.path.strip("/0123456789"))
        ):
            return f"{self.scheme}://…"
        hosts = ",".join(_place(host, port) for host, port in ((self.host, self.port), *self.further))
        return f"{self.scheme}://{hosts}{self.path}"

    def __repr__(self) -> str:
        return f"StoreUrl({self.shown!r})"


def _place(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def parse_url(text: str) -> StoreUrl:
    """Take a storage URL apart. Raises `ConfigurationError` when it has no scheme, is malformed, or could mean two
    things for want of an escape. No error shows a part of what may be a password."""
    if not isinstance(text, str) or "://" not in text:
        raise ConfigurationError(
            f'a storage URL looks like "sqlite:///cache.db" or "redis://host:6379/0", got {_hint(text)}'
        )
    scheme = text.partition("://")[0].lower()
    if not _SCHEME.fullmatch(scheme):
        raise ConfigurationError("malformed storage URL: it does not begin with a scheme, such as redis://")
    if "#" in text:
        raise ConfigurationError(f"malformed {scheme}:// URL (a # is written %23)")
    first, others = _hosts(text) if scheme.endswith(_SEVERAL_HOSTS) else (text, ())
    parts, further = _parts(first), _further(others)
    if isinstance(parts, str) or isinstance(further, str):
        raise ConfigurationError(f"malformed {scheme}:// URL ({parts if isinstance(parts, str) else further})")
    split, port, pairs = parts
    if split.netloc and ("@" in split.path or ("@" in split.query and {":", "@"} & set(split.netloc))):
        raise ConfigurationError(
            f"malformed {scheme}:// URL (an @ after the host; in user names, passwords, paths and options write "
            "/ as %2F, ? as %3F, @ as %40)"
        )
    options = dict(pairs)
    if len(options) != len(pairs):
        raise ConfigurationError(f"the {scheme}:// URL names an option twice")
    return StoreUrl(
        scheme=scheme,
        text=text,
        path=unquote(split.path),
        host=split.hostname or "",
        port=port,
        username=unquote(split.username) if split.username else None,
        password=unquote(split.password) if split.password else None,
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


def _further(hosts: Iterable[str]) -> tuple[tuple[str, int | None], ...] | str:
    """Hosts after the first with their ports; or what is wrong with one."""
    taken = [_parts(f"//{host}") for host in hosts]
    for parts in taken:
        if isinstance(parts, str):
            return parts
    return tuple((parts[0].hostname or "", parts[1]) for parts in taken if not isinstance(parts, str))


def _parts(text: str) -> tuple[SplitResult, int | None, list[tuple[str, str]]] | str:
    """The URL's parts, its port and its options; or what is wrong with it. Nothing is raised here, so that no
    exception that quotes the URL is the context of ours."""
    try:
        split = urlsplit(text)
        port = split.port
        return split, port, parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query))
    except ValueError as error:
        return (
            "its port is not a number from 0 to 65535" if "port" in str(error).lower() else "it cannot be taken apart"
        )


def shown_url(text: str) -> str:
    """What may be shown of a storage URL, also of one that is refused: at the worst, its scheme."""
    try:
        return parse_url(text).shown
    except ConfigurationError:
        scheme = text.partition("://")[0].lower()
        return f"{scheme}://…" if _SCHEME.fullmatch(scheme) and "://" in text else "…"


def _hint(text: object) -> str:
    """What an error may say of a text that is no URL."""
    if not isinstance(text, str):
        return "None" if text is None else f"a {type(text).__name__}"
    return repr(text) if not set(":@?&=#") & set(text) else "something else"


class Options:
    """A reader of a URL's query options that knows which ones exist: `finish` refuses those nobody asked for."""

    __slots__ = ("_discreet", "_known", "_url")

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._known: list[str] = []
        # An unescaped & makes the rest of a password an option of its own; where not even the host may be shown, no
        # option may either.
        self._discreet = url.shown.endswith("://…") or any(name in CREDENTIALS for name in url.options)

    def text(self, name: str, default: str = "") -> str:
        """The option as it stands."""
        self._known.append(name)
        return self._url.options.get(name, default)

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """One of `choices`."""
        chosen = self.text(name, default)
        if chosen not in (allowed := tuple(choices)):
            raise ConfigurationError(f"{self._named(name)} must be one of {', '.join(allowed)}{self._got(chosen)}")
        return chosen

    def flag(self, name: str, default: bool) -> bool:
        """A truth value: true, false, 1, 0, yes or no."""
        chosen = self.choice(name, ("true", "false", "1", "0", "yes", "no"), "true" if default else "false")
        return chosen in ("true", "1", "yes")

    def integer(self, name: str, default: int, *, least: int = 0) -> int:
        """A whole number of at least `least`."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ConfigurationError(f"{self._named(name)} must be a whole number of at least {least}{self._got(text)}")
        return int(text)

    def size(self, name: str, default: int | None = None, *, least: int = 1) -> int | None:
        """A number of bytes, such as 256MB."""
        text = self.text(name)
        if text == "":
            return default
        size = self._parsed(parse_size, text, name, "a number of bytes, such as 64KiB")
        if size < least:
            raise ConfigurationError(f"{self._named(name)} must be at least {least} bytes{self._got(text)}")
        return size

    def duration(self, name: str, default: float) -> float:
        """A number of seconds above zero, such as 250ms."""
        text = self.text(name)
        seconds = self._parsed(parse_duration, text, name, "seconds, such as 250ms") if text else default
        if seconds <= 0:
            raise ConfigurationError(f"{self._named(name)} must be more than 0 seconds{self._got(text)}")
        return seconds

    def finish(self) -> None:
        """Refuse options that were not asked for, naming those that exist."""
        unknown = sorted(set(self._url.options) - set(self._known))
        if unknown:
            named = "an option that does not exist" if self._discreet else f"unknown option {', '.join(unknown)}"
            raise ConfigurationError(
                f"{named} in {self._url.shown}; {self._url.scheme}:// knows {', '.join(sorted(self._known)) or 'none'}"
            )

    def _parsed(self, parse: Callable[[str, str], N], text: str, name: str, what: str) -> N:
        problem = f"{self._named(name)} must be {what}"
        try:
            return parse(text, self._named(name))
        except ConfigurationError as error:
            if not self._discreet:
                problem = str(error)
        raise ConfigurationError(problem)

    def _got(self, text: str) -> str:
        return "" if self._discreet else f", got {text!r}"

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
