"""Passwords: Argon2id hashes computed a few at a time, and the rules a new password must meet."""

from __future__ import annotations

import os
import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from agentcache_service.errors import Unprocessable

MIN_LENGTH = 8
MAX_LENGTH = 256


class Passwords:
    """Hashes and verifies with Argon2id, 19 MiB, two passes, one lane (OWASP's choice for servers).

    At most as many at once as there are processors: each takes 19 MiB, and a flood of logins must not take the
    machine's memory. Call from worker threads, never from the event loop.
    """

    def __init__(self, *, memory_kib: int = 19 * 1024, passes: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._turn = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))
        self._nobody = self._hasher.hash("nobody has this password")

    def hash(self, password: str) -> str:
        """The hash to store."""
        with self._turn:
            return self._hasher.hash(_normal(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """True when the password is right. With `stored` None (no such account) it takes as long and says no."""
        with self._turn:
            try:
                self._hasher.verify(stored or self._nobody, _normal(password))
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None

    def is_old(self, stored: str) -> bool:
        """True when a hash was made with other parameters and should be made anew at the next login."""
        return self._hasher.check_needs_rehash(stored)


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


@cache
def common_passwords() -> frozenset[str]:
    """Passwords that attackers try first, lower-case: the 30,000 commonest of published leaks."""
    # 1.5 MB of lists: read at the first sign-up only
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # type: ignore[import-untyped]  # the package has no types

    return frozenset(FREQUENCY_LISTS["passwords"])


def check_new_password(password: str, *, about: tuple[str, ...] = ()) -> None:
    """Raise `Unprocessable` unless a new password is long enough, not common and not the person's own name.

    There are no rules about digits or signs: they make passwords worse. `about` holds names the password must not be.
    """
    if len(password) < MIN_LENGTH:
        raise Unprocessable(f"The password must have at least {MIN_LENGTH} characters.", code="password_too_short")
    if len(password) > MAX_LENGTH:
        raise Unprocessable(f"The password must have at most {MAX_LENGTH} characters.", code="password_too_long")
    plain = _normal(password).casefold()
    if plain in common_passwords() or len(set(plain)) == 1:
        raise Unprocessable("This password is one of the first that attackers try.", code="password_common")
    if plain in {name.casefold() for name in about if name}:
        raise Unprocessable("The password must not be your name or address.", code="password_personal")
