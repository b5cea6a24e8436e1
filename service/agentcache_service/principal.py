"""Who is calling: one immutable record, whatever the credential was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["anonymous", "session", "api_key"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request.

    `org_id` is the organization the call acts in (also the engine's tenant). `role` is the caller's role in it for
    sessions; API keys have `scopes` and, where restricted, `namespaces` instead. `is_staff` marks platform admins, once
    their second factor was given.
    """

    kind: Kind = "anonymous"
    user_id: str | None = None
    org_id: str | None = None
    role: str | None = None
    scopes: frozenset[str] = frozenset()
    namespaces: frozenset[str] | None = None
    key_id: str | None = None
    session_id: str | None = None
    is_staff: bool = False
    needs_second_factor: bool = False
    address: str = ""
    csrf_token: str = field(default="", repr=False)

    @property
    def actor(self) -> str:
        """The name used in the audit log: ids only."""
        return self.key_id or self.user_id or "anonymous"

    @property
    def tenant(self) -> str:
        """The organization's id; an error of ours when there is none."""
        if self.org_id is None:
            raise RuntimeError("this route needs an organization; its guard should have refused the call")
        return self.org_id

    @property
    def user(self) -> str:
        """The user's id; an error of ours when there is none."""
        if self.user_id is None:
            raise RuntimeError("this route needs a user; its guard should have refused the call")
        return self.user_id
