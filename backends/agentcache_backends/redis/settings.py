"""Where a Redis is and how to talk to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agentcache_backends.redis.slots import Node
from agentcache_core.errors import ConfigurationError
from agentcache_core.urls import Options, StoreUrl

USERNAME_VARIABLE: Final = "AGENTCACHE_REDIS_USERNAME"
_PORT: Final = 6379
_FOR_TLS: Final = {"ca_certs", "certfile", "keyfile", "check_hostname"}
PASSWORD_VARIABLE: Final = "AGENTCACHE_REDIS_PASSWORD"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach one Redis, or (`seeds`) a cluster of them through any of the nodes that are named. `shown` is what
    errors may say of it; credentials never appear in a repr."""

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
    seeds: tuple[Node, ...] = ()

    def at(self, node: Node) -> Settings:
        """How to reach one node of the cluster."""
        return replace(self, host=node.host, port=node.port)

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
    """The settings that a URL of one of this package's schemes spells out. Raises `ConfigurationError`."""
    options = Options(url)
    is_socket = url.scheme == "unix"
    path = url.path.strip("/")
    if is_socket and not path:
        raise ConfigurationError("unix:// needs the path of a socket, such as unix:///run/redis/redis.sock")
    is_cluster = url.scheme.endswith("+cluster")
    host, port = url.host or "127.0.0.1", url.port if url.port is not None else _PORT
    further = [Node(other or "127.0.0.1", _PORT if its is None else its) for other, its in url.further]
    timeout = options.duration("timeout", url.deadline)
    tls = url.scheme.startswith("rediss")
    if not tls and (named := _FOR_TLS & set(url.options)):
        raise ConfigurationError(
            f"option {', '.join(sorted(named))} of {url.scheme}:// needs TLS: use rediss in its place"
        )
    settings = Settings(
        shown=url.shown,
        host=host,
        port=port,
        socket_path=url.path if is_socket else "",
        database=_database(url, path, options, is_socket=is_socket, is_cluster=is_cluster),
        username=url.username or os.environ.get(USERNAME_VARIABLE) or None,
        password=url.password or os.environ.get(PASSWORD_VARIABLE) or None,
        tls=tls,
        ca_certs=options.text("ca_certs"),
        certfile=options.text("certfile"),
        keyfile=options.text("keyfile"),
        check_hostname=options.flag("check_hostname", True),
        timeout=timeout,
        connect_timeout=options.duration("connect_timeout", timeout),
        max_connections=options.integer("max_connections", 64, least=1),
        prefix=options.text("prefix", "ac1:").encode(),
        log_length=options.integer("log_length", 10_000, least=1),
        seeds=(Node(host, port), *further) if is_cluster else (),
    )
    options.finish()
    if is_cluster and b"{" in settings.prefix:
        raise ConfigurationError(
            f"the prefix of {url.scheme}:// must not hold a brace: it would be taken for a hash tag"
        )
    return settings


def _database(url: StoreUrl, path: str, options: Options, *, is_socket: bool, is_cluster: bool) -> int:
    database = options.integer("db", 0)
    if path and not is_socket:
        if not (path.isascii() and path.isdigit()):
            raise ConfigurationError(f"the path of {url.shown} must be the number of a database, such as /0")
        database = int(path)
    if database and is_cluster:
        raise ConfigurationError(f"a cluster has no numbered databases: leave /{database} out of {url.shown}")
    return database
