"""The one shape every refusal has: `{"success": false, "error", "message", …}`, and the errors services raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, KeyingError, UnstorableValue

_log = structlog.get_logger("agentcache_service")


class ErrorBody(BaseModel):
    """What a refused call answers."""

    model_config = ConfigDict(extra="allow")

    success: bool = Field(default=False, description="always false")
    error: str = Field(description="a stable machine-readable code")
    message: str = Field(description="what was wrong and how to mend it")
    details: list[dict[str, Any]] | None = Field(
        default=None, description="one item per wrong field, where there are fields"
    )


class ServiceError(Exception):
    """A refusal with an HTTP status, a stable code and a sentence for people.

    `extra` is merged into the answer; `headers` into its headers.
    """

    status = 400
    code = "bad_request"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


class BadRequest(ServiceError):
    """The request cannot be understood or contradicts itself."""


class Unauthenticated(ServiceError):
    """Nobody known is calling: no credential, or one that is wrong, expired or revoked."""

    status, code = 401, "unauthenticated"


class Forbidden(ServiceError):
    """The caller is known and may not do this."""

    status, code = 403, "forbidden"


class NotFound(ServiceError):
    """There is no such thing here; also the answer about another tenant's things."""

    status, code = 404, "not_found"


class Conflict(ServiceError):
    """The change contradicts what is there already."""

    status, code = 409, "conflict"


class Unprocessable(ServiceError):
    """The request is well formed and its values are not acceptable."""

    status, code = 422, "invalid"


class RateLimited(ServiceError):
    """Too many calls in a short time. `Retry-After` says when to come back."""

    status, code = 429, "rate_limited"

    def __init__(self, retry_after: int) -> None:
        seconds = max(1, retry_after)
        super().__init__(f"Too many requests. Try again in {seconds} s.", headers={"Retry-After": str(seconds)})


class QuotaExceeded(ServiceError):
    """A limit of the plan is reached (402)."""

    status, code = 402, "quota_exceeded"

    def __init__(self, message: str, *, upgrade_url: str) -> None:
        super().__init__(message, extra={"upgrade_url": upgrade_url})


class FeatureNotInPlan(ServiceError):
    """The plan does not include this feature (402)."""

    status, code = 402, "feature_not_in_plan"

    def __init__(self, message: str, *, upgrade_url: str) -> None:
        super().__init__(message, extra={"upgrade_url": upgrade_url})


RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body or a parameter could not be read."},
    401: {"model": ErrorBody, "description": "No valid credential."},
    402: {"model": ErrorBody, "description": "A limit of the plan."},
    403: {"model": ErrorBody, "description": "Known, and not allowed."},
    404: {"model": ErrorBody, "description": "No such thing here."},
    409: {"model": ErrorBody, "description": "Contradicts what is there."},
    413: {"model": ErrorBody, "description": "The body is larger than allowed."},
    422: {"model": ErrorBody, "description": "Well formed, and a value is not acceptable."},
    429: {"model": ErrorBody, "description": "Too many requests; see Retry-After."},
    500: {"model": ErrorBody, "description": "Our fault; `request_id` names the call in our log."},
    503: {"model": ErrorBody, "description": "A store does not answer; see Retry-After."},
}


def error_response(error: ServiceError) -> JSONResponse:
    """The JSON answer for a refusal. What it quotes of the request is made legible first."""
    body = _legible({"success": False, "error": error.code, "message": error.message, **error.extra})
    return JSONResponse(body, status_code=error.status, headers=error.headers)


def _legible(value: Any) -> Any:
    """The same with half characters (lone surrogates), which no encoding can carry, replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_legible(key): _legible(inner) for key, inner in value.items()}
    return [_legible(inner) for inner in value] if isinstance(value, list) else value


def answer_to(request: Request, error: ServiceError) -> Response:
    """The answer for a refusal: a page for a browser that asks for one, else JSON."""
    page = getattr(request.app.state, "error_page", None)
    if page is not None and wants_page(request):
        answer: Response = page(request, error)
        return answer
    return error_response(error)


_STATUS_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}


def wants_page(request: Request) -> bool:
    """True when a browser asks for a page rather than a program for JSON."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def install_error_shape(app: FastAPI) -> None:
    """Give the app its handlers: every refusal, ours or the framework's, leaves in the one shape (or as a page)."""

    async def on_service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return answer_to(request, error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _STATUS_CODES.get(error.status_code, "error")
        translated = ServiceError(
            str(error.detail), code=code, status=error.status_code, headers=dict(error.headers or {})
        )
        return await on_service_error(request, translated)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = error.errors()
        broken = any(item["type"] in {"json_invalid", "value_error.jsondecode"} for item in problems)
        details = [{"field": _field(item["loc"]), "problem": _sentence(item)} for item in problems]
        first = details[0] if details else {"field": "body", "problem": "is not acceptable"}
        message = f"{first['field']}: {first['problem']}"
        kind = BadRequest if broken else Unprocessable
        return await on_service_error(request, kind(message, extra={"details": details}))

    async def on_engine(request: Request, error: Exception) -> Response:
        if isinstance(error, KeyingError | UnstorableValue):
            return answer_to(request, Unprocessable(f"This cannot be stored: {error}", code="unstorable"))
        if isinstance(error, BackendFull | BackendReadOnly):
            return answer_to(request, ServiceError(f"Not stored: {error}", code="not_stored", status=507))
        _log.warning("storage trouble", error=f"{type(error).__name__}: {error}"[:500])
        away = ServiceError(
            "The storage does not answer; try again.", code="storage_away", status=503, headers={"Retry-After": "5"}
        )
        return answer_to(request, away)

    async def on_unfit(request: Request, error: Exception) -> Response:
        _log.warning("a value does not fit the database", error=f"{type(error).__name__}: {error}"[:500])
        refusal = Unprocessable("A value is too large, or holds a character that cannot be stored.", code="unfit")
        return answer_to(request, refusal)

    # a number beyond 64 bits or half a character that no field's own rule has caught
    for unfit in (DataError, OverflowError, UnicodeEncodeError):
        app.add_exception_handler(unfit, on_unfit)
    for trouble in (BackendError, KeyingError, UnstorableValue):
        app.add_exception_handler(trouble, on_engine)
    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)


def _field(location: Sequence[Any]) -> str:
    """Where a wrong value stands, as the caller wrote it: `tags.0` rather than `body.tags.0`."""
    named = location[1:] if len(location) > 1 and location[0] == "body" else location
    return ".".join(map(str, named))


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        return f"is not JSON: {problem.get('ctx', {}).get('error', problem['msg'])}"
    if problem["type"] in {"model_attributes_type", "dict_type", "model_type"} and tuple(problem["loc"]) == ("body",):
        return "is no JSON object; send one, with Content-Type: application/json"
    return str(problem["msg"]).removeprefix("Value error, ")
