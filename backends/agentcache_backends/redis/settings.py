"""Where a Redis is and how to talk to it, and its errors in the words of the seam."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final

import redis.exceptions as theirs
from hiredis import ReplyError

from agentcache_core.errors import (
    BackendError,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    ConfigurationError,
)
from agentcache_core.urls import Options, StoreUrl

USERNAME_VARIABLE: Final = "AGENTCACHE_REDIS_USERNAME"
PASSWORD_VARIABLE: Final = "AGENTCACHE_REDIS_PASSWORD"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach one Redis. `shown` is what errors may say of it; credentials never appear in a repr."""

    shown: str
    host: str = "127.0.0.1"
    port: int = 6379
    socket_path: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_certs: str = ""
    certfile: str = ""
    keyfile: str = ""
    check_hostname: bool = True
    timeout: float = 0.25
    connect_timeout: float = 0.25
    max_connections: int = 64
    prefix: bytes = b"ac1:"
    log_length: int = 10_000

    def connection_options(self) -> dict[str, Any]:
        """The keyword arguments of redis-py's connections, both kinds."""
        options: dict[str, Any] = {
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "socket_timeout": self.timeout,
            "socket_connect_timeout": self.connect_timeout,
            "protocol": 2,
            "driver_info": None,
        }
        if self.socket_path:
            return options | {"path": self.socket_path}
        options |= {"host": self.host, "port": self.port, "socket_keepalive": True}
        if self.tls:
            options |= {
                "ssl_ca_certs": self.ca_certs or None,
                "ssl_certfile": self.certfile or None,
                "ssl_keyfile": self.keyfile or None,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": self.check_hostname,
            }
        return options


def settings_of(url: StoreUrl) -> Settings:
    """The settings that a `redis://`, `rediss://` or `unix://` URL spells out. Raises `ConfigurationError`."""
    options = Options(url)
    is_socket = url.scheme == "unix"
    database = options.integer("db", 0)
    path = url.path.strip("/")
    if not is_socket and path:
        if not (path.isascii() and path.isdigit()):
            raise ConfigurationError(f"the path of {url.shown} must be the number of a database, such as /0")
        database = int(path)
    if is_socket and not path:
        raise ConfigurationError("unix:// needs the path of a socket, such as unix:///run/redis/redis.sock")
    timeout = options.duration("timeout", url.deadline)
    settings = Settings(
        shown=url.shown,
        host=url.host or "127.0.0.1",
        port=url.port if url.port is not None else 6379,
        socket_path=url.path if is_socket else "",
        database=database,
        username=url.username or os.environ.get(USERNAME_VARIABLE) or None,
        password=url.password or os.environ.get(PASSWORD_VARIABLE) or None,
        tls=url.scheme == "rediss",
        ca_certs=options.text("ca_certs"),
        certfile=options.text("certfile"),
        keyfile=options.text("keyfile"),
        check_hostname=options.flag("check_hostname", True),
        timeout=timeout,
        connect_timeout=options.duration("connect_timeout", timeout),
        max_connections=options.integer("max_connections", 64, least=1),
        prefix=options.text("prefix", "ac1:").encode(),
        log_length=options.integer("log_length", 10_000, least=1),
    )
    options.finish()
    return settings


_BY_WORD: Final[dict[str, tuple[type[BackendError], str]]] = {
    "OOM": (BackendFull, "it is out of memory and evicts nothing; raise maxmemory or set an eviction policy"),
    "READONLY": (BackendReadOnly, "it is a replica that takes no writes"),
    "MISCONF": (BackendReadOnly, "it refuses writes because it cannot save to its disk"),
    "NOREPLICAS": (BackendReadOnly, "it refuses writes because it has too few replicas"),
    "LOADING": (BackendUnavailable, "it is still loading its data"),
    "MASTERDOWN": (BackendUnavailable, "its primary is down"),
    "CLUSTERDOWN": (BackendUnavailable, "its cluster is down"),
    "TRYAGAIN": (BackendUnavailable, "its cluster is moving slots"),
    "MOVED": (BackendUnavailable, "it is a node of a cluster, and the key lies on another node"),
    "ASK": (BackendUnavailable, "it is a node of a cluster, and the key is moving to another node"),
    "CROSSSLOT": (BackendUnavailable, "it is a node of a cluster, and the keys lie in several slots"),
    "BUSY": (BackendUnavailable, "it is busy with a script"),
    "NOAUTH": (BackendUnavailable, "it asks for a password; put one into the URL or AGENTCACHE_REDIS_PASSWORD"),
    "WRONGPASS": (BackendUnavailable, "it refuses the user name or password"),
    "NOPERM": (BackendUnavailable, "the user lacks a permission"),
    "WRONGTYPE": (BackendUnavailable, "a key under our prefix holds something of another application"),
}


_BY_CLASS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (theirs.ReadOnlyError, "READONLY"),
    (theirs.BusyLoadingError, "LOADING"),
    (theirs.OutOfMemoryError, "OOM"),
    (theirs.NoPermissionError, "NOPERM"),
    (theirs.MovedError, "MOVED"),
    (theirs.AskError, "ASK"),
    (theirs.TryAgainError, "TRYAGAIN"),
    (theirs.ClusterDownError, "CLUSTERDOWN"),
    (theirs.MasterDownError, "MASTERDOWN"),
)


def ours(error: BaseException, shown: str) -> BackendError:
    """An exception of redis-py, or an error that Redis answered, in the words of the seam."""
    word = next((word for kind, word in _BY_CLASS if isinstance(error, kind)), "")
    if isinstance(error, theirs.AuthenticationError):
        word = "NOAUTH" if "required" in str(error).lower() else "WRONGPASS"
    if not word and isinstance(error, theirs.ResponseError | ReplyError):
        # Only one word of the text: the rest may repeat what was sent. An error inside a script stands further on.
        words = [part.lstrip("-") for part in str(error).replace(":", " ").split()]
        word = next((part for part in words if part in _BY_WORD), words[0] if words and words[0].isupper() else "ERR")
        kind, reason = _BY_WORD.get(word, (BackendUnavailable, f"it answered {word}"))
    elif word:
        kind, reason = _BY_WORD[word]
    elif isinstance(error, theirs.TimeoutError | TimeoutError):
        kind, reason = BackendUnavailable, "it did not answer in time"
    elif isinstance(error, theirs.RedisError | OSError):
        kind, reason = BackendUnavailable, "it cannot be reached, or closed the connection"
    else:
        kind, reason = BackendUnavailable, type(error).__name__
    return kind(f"Redis at {shown}: {reason}")
