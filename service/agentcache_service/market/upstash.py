"""Upstash: a Redis reached over REST (or TLS), as a storage backend for the shared tier of a cache.

The REST form posts a command as a JSON array and is answered `{"result": …}` or `{"error": …}`; several commands go to
`/pipeline`, atomic ones as a Lua script through EVAL. Values travel in base64, because the transport is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.safe_http import Caps, FetchFailed, SafeClient
from agentcache_service.service import Service

CAPS = Caps(max_bytes=32 << 20, seconds=15.0, hops=0)


class UpstashFailed(ServiceError):
    """Upstash could not be reached, or refused the command."""

    status, code = 502, "partner_failed"


class Commands(Protocol):
    """Runs Redis commands somewhere."""

    def run(self, *command: str | int) -> Any:
        """The result of one command."""
        ...


class RestCommands:
    """Commands over Upstash's REST interface."""

    def __init__(self, http: SafeClient, url: str, token: str) -> None:
        if urlsplit(url).scheme not in {"https", "http"}:
            raise Unprocessable("The REST address begins with https://.")
        self._http = http
        self._url = url.rstrip("/")
        self._token = token

    def run(self, *command: str | int) -> Any:
        """Post one command."""
        return self._result(self._post("", [str(part) for part in command]))

    def pipeline(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Post several commands in one round trip; results in order."""
        answers = self._post("/pipeline", [[str(part) for part in command] for command in commands])
        if not isinstance(answers, list) or len(answers) != len(commands):
            raise UpstashFailed("Upstash answered another number of results than was asked.")
        return [self._result(answer) for answer in answers]

    def _post(self, path: str, body: Any) -> Any:
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            got = self._http.fetch(
                "POST", self._url + path, headers=headers, body=json.dumps(body).encode(), caps=CAPS, follow=False
            )
            answer = json.loads(got.body)
        except (FetchFailed, ValueError) as error:
            raise UpstashFailed("Upstash could not be reached.") from error
        if got.status in {401, 403}:
            raise Unprocessable("Upstash refuses this token.", code="credential_refused")
        if got.status != 200 and not isinstance(answer, Mapping):
            raise UpstashFailed(f"Upstash answered {got.status}.")
        return answer

    @staticmethod
    def _result(answer: Any) -> Any:
        if not isinstance(answer, Mapping) or "result" not in answer:
            told = answer.get("error", "") if isinstance(answer, Mapping) else ""
            raise UpstashFailed(f"Upstash refused a command: {str(told)[:120]}")
        return answer["result"]


def check(service: Service, fields: Mapping[str, str]) -> str:
    """PING over REST, or over TLS for a rediss:// address; the name shown for the connection."""
    url, token = fields["url"], fields["token"]
    parts = urlsplit(url)
    if parts.scheme in {"rediss", "redis"}:
        return _check_socket(service, url, token)
    if RestCommands(service.outgoing, url, token).run("PING") != "PONG":
        raise UpstashFailed("Upstash did not answer PING.")
    return f"REST at {parts.hostname}"


def _check_socket(service: Service, url: str, token: str) -> str:
    import redis

    parts = urlsplit(url)
    port = parts.port or 6379
    resolved = service.outgoing.resolve(parts.hostname or "", port)
    if parts.scheme == "redis" and not resolved[0].startswith("127."):
        raise Unprocessable("The connection must be encrypted: use the rediss:// address.")
    client = redis.Redis.from_url(url, password=token or parts.password, socket_timeout=10, socket_connect_timeout=10)
    try:
        client.ping()
    except redis.AuthenticationError:
        raise Unprocessable("Upstash refuses this password.", code="credential_refused") from None
    except redis.RedisError as error:
        raise UpstashFailed(f"Upstash could not be reached ({type(error).__name__}).") from None
    finally:
        client.close()
    return f"TLS at {parts.hostname}"
