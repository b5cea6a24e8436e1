"""Neon: a PostgreSQL address, accepted when it is safe to call, encrypted, and a server answers there."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.service import Service

TIMEOUT_S = 10


class DatabaseUnreachable(ServiceError):
    """The database did not answer, or refused the user."""

    status, code = 422, "database_unreachable"


def check(service: Service, fields: Mapping[str, str]) -> str:
    """The server's version and database, once it has answered at the address as it was resolved and checked here."""
    import psycopg

    address = fields["database_url"]
    parts = urlsplit(address)
    if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname or not parts.username:
        raise Unprocessable(
            "Give the whole connection string: postgresql://user:password@host/database?sslmode=require"
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = set(options) - {"sslmode", "channel_binding", "options"}
    if unknown:
        raise Unprocessable(f"The connection string has options that are not accepted: {', '.join(sorted(unknown))}.")
    port = parts.port or 5432
    resolved = service.outgoing.resolve(parts.hostname, port)
    sslmode = options.get("sslmode", "require")
    is_loopback = all(ipaddress.ip_address(found).is_loopback for found in resolved)
    if sslmode not in {"require", "verify-ca", "verify-full"} and not is_loopback:
        raise Unprocessable("The connection must be encrypted: add sslmode=require.")
    try:
        with psycopg.connect(
            host=parts.hostname,
            hostaddr=resolved[0],
            port=port,
            user=unquote(parts.username),
            password=unquote(parts.password or ""),
            dbname=parts.path.lstrip("/") or "postgres",
            sslmode=sslmode,
            connect_timeout=TIMEOUT_S,
            options=options.get("options", "") + " -c statement_timeout=5000",
        ) as connection:
            row = connection.execute("SELECT current_setting('server_version'), current_database()").fetchone()
    except psycopg.Error as error:
        raise DatabaseUnreachable(f"The database did not accept the connection ({type(error).__name__}).") from None
    assert row is not None
    return f"PostgreSQL {str(row[0]).split()[0]}, database {row[1]}"
