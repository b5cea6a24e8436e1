"""Upstash as a place to keep entries: a Redis spoken to over HTTPS, for where no other connection leaves the building.

Every entry is a Redis hash (data in base64, version, expiry, time of writing) under one key made of the prefix and the
name in hex; conditions and writes are one Lua script. Over TLS (`rediss://`) use the Redis backend instead. Needs the
extra `agentcache[httpx2]`:

    Cache(["memory://", Tier(UpstashBackend(url, token))])
"""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from agentcache_core.backend import Capabilities, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed, BackendError, BackendUnavailable, ConfigurationError
from agentcache_core.model import MISSING, Missing

_ALIVE = """
local e = redis.call('HGET', KEYS[1], 'e')
local alive = e and (e == '' or tonumber(e) > tonumber(ARGV[1]))
"""
_PUT = (
    _ALIVE
    + """
if ARGV[2] == 'absent' and alive then return 0 end
if ARGV[2] == 'version' and (not alive or redis.call('HGET', KEYS[1], 'v') ~= ARGV[3]) then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[7] ~= '' and tonumber(ARGV[7]) <= 0 then return 1 end
redis.call('HSET', KEYS[1], 'd', ARGV[4], 'v', ARGV[5], 'e', ARGV[6], 'm', ARGV[1], 's', ARGV[8])
if ARGV[7] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[7]) end
return 1
"""
)
_DELETE = (
    _ALIVE
    + """
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'v') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
return alive and 1 or 0
"""
)
_PAGE = 500


class UpstashBackend:
    """Blocking storage over Upstash's REST interface.

    `url` and `token` are those of the database's REST API. Answers are waited for at most `timeout` seconds.
    """

    capabilities = Capabilities(durable=True, shared=True, ordered_scan=True)

    def __init__(
        self, url: str, token: str, *, prefix: str = "ac1:", timeout: float = 5.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise ConfigurationError("the REST address of Upstash begins with https://")
        self._url = url.rstrip("/")
        self._token = token
        self._prefix = prefix
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None
        self._owner = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"UpstashBackend({self._url!r})"

    def get(self, name: bytes) -> Stored | Missing:
        """One round trip."""
        found = self._run("HMGET", self._key(name), "d", "v", "e")
        data, version, expiry = found
        if data is None or not self._is_alive(expiry):
            return MISSING
        return Stored(base64.b64decode(data), bytes.fromhex(version))

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        """One round trip: the condition and the write are one script."""
        now, version = self._clock.now(), secrets.token_bytes(8)
        condition = "absent" if if_absent else "version" if if_version is not None else ""
        expiry = "" if expires_at is None else repr(expires_at)
        left = "" if expires_at is None else str(math.ceil((expires_at - now) * 1000))
        wrote = self._run(
            "EVAL",
            _PUT,
            "1",
            self._key(name),
            repr(now),
            condition,
            (if_version or b"").hex(),
            base64.b64encode(data).decode(),
            version.hex(),
            expiry,
            left,
            str(len(data)),
        )
        return version if wrote else None

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        """One round trip."""
        wanted = "" if if_version is None else if_version.hex()
        return bool(self._run("EVAL", _DELETE, "1", self._key(name), repr(self._clock.now()), wanted))

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        """All names first (SCAN), then what is known of them, some hundred in one round trip."""
        start = self._prefix + prefix.hex()
        keys: set[str] = set()
        cursor = "0"
        while True:
            cursor, page = self._run("SCAN", cursor, "MATCH", f"{_escaped(start)}*", "COUNT", str(_PAGE))
            keys.update(page)
            if str(cursor) == "0":
                break
        names = sorted(bytes.fromhex(key.removeprefix(self._prefix)) for key in keys)
        wanted = [name for name in names if name > after]
        for first in range(0, len(wanted), _PAGE):
            part = wanted[first : first + _PAGE]
            found = self._pipeline([["HMGET", self._key(name), "s", "m", "e", "v"] for name in part])
            for name, (size, modified, expiry, version) in zip(part, found, strict=True):
                if size is not None and self._is_alive(expiry):
                    ends = float(expiry) if expiry else None
                    yield Stat(name, int(size), float(modified), ends, bytes.fromhex(version))

    def close(self) -> None:
        """Return connections."""
        self._closed = True
        with self._lock:
            if self._client is not None and self._owner == os.getpid():
                self._client.close()
            self._client = None

    def _key(self, name: bytes) -> str:
        return self._prefix + name.hex()

    def _is_alive(self, expiry: str | None) -> bool:
        return not expiry or float(expiry) > self._clock.now()

    def _run(self, *command: str) -> Any:
        return _result(self._post("", command))

    def _pipeline(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        answers = self._post("/pipeline", commands)
        if not isinstance(answers, list) or len(answers) != len(commands):
            raise BackendError("Upstash answered another number of results than was asked")
        return [_result(answer) for answer in answers]

    def _post(self, path: str, body: Any) -> Any:
        import httpx2

        if self._closed:
            raise BackendClosed("this backend is closed")
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            answer = self._connected().post(self._url + path, content=json.dumps(body).encode(), headers=headers)
        except httpx2.HTTPError as error:
            raise BackendUnavailable(f"Upstash did not answer: {type(error).__name__}") from error
        except RuntimeError as error:
            raise BackendClosed("this backend is closed") from error
        if answer.status_code in {401, 403}:
            raise BackendError("Upstash refuses the token")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise BackendUnavailable(f"Upstash answered {answer.status_code}")
        try:
            return answer.json()
        except ValueError as error:
            raise BackendError("Upstash did not answer with JSON") from error

    def _connected(self) -> Any:
        """The HTTP client of this process; a child makes its own."""
        import httpx2

        with self._lock:
            if self._client is None or self._owner != os.getpid():
                self._client = httpx2.Client(timeout=self._timeout, trust_env=False)
                self._owner = os.getpid()
            return self._client


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict) or "result" not in answer:
        told = str(answer.get("error", ""))[:200] if isinstance(answer, dict) else ""
        raise BackendError(f"Upstash refused a command: {told}")
    return answer["result"]


def _escaped(pattern: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in pattern)
