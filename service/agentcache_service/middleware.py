"""Pure ASGI layers around the app: request ids and logs, security headers, body limits."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentcache_service.errors import ServiceError, Unprocessable, answer_to, error_response
from agentcache_service.metrics import Metrics

_log = structlog.get_logger("agentcache_service.http")

# the one style sheet Observable Plot writes into its pictures (class name "plot", see web/static/charts.js)
PLOT_STYLE = "sha256-+TfQir1nvDucAdvE6XUQBt4ayUjpAWkbw2kCdSfekHM="
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{PLOT_STYLE}'; "
    "img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"
)


class Observe:
    """Gives every request an id, counts and times it by route template, and logs one line about it where it was refused
    or failed (`tells_all`: about every one)."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, tells_all: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._tells_all = tells_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and look at the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = secrets.token_hex(8)
        status = 500
        began = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.answered(scope["method"], route, status, seconds)
            if status >= 400 or self._tells_all:
                write = _log.warning if status >= 500 else _log.info if status >= 400 else _log.debug
                milliseconds = round(seconds * 1e3, 2)
                write("request", id=request_id, method=scope["method"], route=route, status=status, ms=milliseconds)


class SecurityHeaders:
    """Adds the headers that tell browsers what not to do. A header the route has set itself is left alone."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        headers = {
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "strict-origin-when-cross-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
            "Cache-Control": "no-store",
        }
        if is_https:
            headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"] = list(message.get("headers", ()))
                present = {name for name, _ in given}
                given.extend(pair for pair in self._headers if pair[0] not in present)
            await send(message)

        await self._app(scope, receive, complete)


class Unbroken:
    """Answers 500 in the one shape where the code below fails, and tells the log what happened, without secrets.

    It also refuses addresses with a NUL character, which no database column and no file name can hold.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and stand in for an answer that never comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            await answer_to(Request(scope), Unprocessable("An address holds no NUL.", code="nul"))(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            _log.info("the caller went away", method=scope["method"])
        except Exception as error:
            request_id = scope.get("request_id", "")
            _log.error("unhandled error", id=request_id, kind=type(error).__name__, exc_info=error)
            if started:
                raise
            await _failure(scope, request_id)(scope, receive, send)


def _failure(scope: Scope, request_id: str) -> Response:
    failure = ServiceError(
        f"Something failed on our side. If it happens again, tell us the request id {request_id}.",
        code="internal",
        status=500,
        extra={"request_id": request_id},
    )
    try:
        return answer_to(Request(scope), failure)
    except Exception as error:  # noqa: BLE001 - the page of the failure may fail for the same reason
        _log.error("no page for a failure", kind=type(error).__name__)
        return error_response(failure)


class _TooLarge(Exception):
    """The body grew past its limit while it was read."""


class BodyLimit:
    """Refuses bodies larger than their path may send (413), by Content-Length or while they arrive."""

    def __init__(self, app: ASGIApp, *, default: int, by_prefix: Mapping[str, int]) -> None:
        self._app = app
        self._default = default
        self._by_prefix = dict(by_prefix)

    def _limit(self, path: str) -> int:
        return next((limit for prefix, limit in self._by_prefix.items() if path.startswith(prefix)), self._default)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > limit:
            await _refusal(limit)(scope, receive, send)
            return
        received, started = 0, False

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _TooLarge
            return message

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, count, watch)
        except _TooLarge:
            if started:
                raise
            await _refusal(limit)(scope, receive, send)


def _refusal(limit: int) -> Response:
    return error_response(ServiceError(f"The body is larger than {limit} bytes.", code="too_large", status=413))
