"""The session cookie: set at login, taken away at logout."""

from __future__ import annotations

from fastapi import Response

from agentcache_service.identity.credentials import cookie_name
from agentcache_service.settings import Settings


def set_session(response: Response, settings: Settings, token: str) -> None:
    """Give the browser its session: unreadable for scripts, not sent by other sites' forms, host-bound under TLS."""
    response.set_cookie(
        cookie_name(is_https=settings.is_https),
        token,
        max_age=settings.session_days * 86400,
        httponly=True,
        secure=settings.is_https,
        samesite="lax",
        path="/",
    )


def clear_session(response: Response, settings: Settings) -> None:
    """Take the session cookie away."""
    response.delete_cookie(
        cookie_name(is_https=settings.is_https), path="/", httponly=True, secure=settings.is_https, samesite="lax"
    )
