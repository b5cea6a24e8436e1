"""What goes wrong with Redis, in the words of the seam."""

from __future__ import annotations

from typing import Final

import redis.exceptions as theirs
from hiredis import ReplyError

from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.tls import TLS_DOUBT, tls_reason
from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, BackendUnavailable

NOT_REDIS: Final = "what answered does not speak Redis"
_BY_WORD: Final[dict[str, tuple[type[BackendError], str]]] = {
    "OOM": (BackendFull, "it is out of memory and evicts nothing; raise maxmemory or set an eviction policy"),
    "READONLY": (BackendReadOnly, "it is a replica that takes no writes"),
    "MISCONF": (BackendReadOnly, "it refuses writes because it cannot save to its disk"),
    "NOREPLICAS": (BackendReadOnly, "it refuses writes because it has too few replicas"),
    "LOADING": (BackendUnavailable, "it is still loading its data"),
    "MASTERDOWN": (BackendUnavailable, "its primary is down"),
    "CLUSTERDOWN": (BackendUnavailable, "its cluster is down"),
    "TRYAGAIN": (BackendUnavailable, "its cluster is moving slots"),
    "MOVED": (BackendUnavailable, "it is a node of a cluster, and the key lies on another one; use redis+cluster://"),
    "ASK": (BackendUnavailable, "it is a node of a cluster, and the key is moving; use redis+cluster://"),
    "CROSSSLOT": (
        BackendUnavailable,
        "it is a node of a cluster, and the keys lie in several slots; use redis+cluster://",
    ),
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
    elif told := tls_reason(error):
        kind, reason = BackendUnavailable, told
    elif NOT_REDIS in str(error):
        kind, reason = BackendUnavailable, f"{NOT_REDIS}; if it is one that speaks TLS, use rediss://"
    elif isinstance(error, theirs.RedisError | OSError):
        kind, reason = BackendUnavailable, "it cannot be reached, or closed the connection"
        if shown.startswith("rediss") and isinstance(error, ConnectionResetError):
            reason = f"it closed the connection; {TLS_DOUBT}"  # whose own word on it is lost with the connection
    else:
        kind, reason = BackendUnavailable, type(error).__name__
    return kind(f"Redis at {shown}: {reason}")


def without_credentials(error: BaseException, settings: Settings) -> BaseException:
    """The same error; or, where its text or a cause's repeats a credential, as servers do with commands that they do
    not know, another one that has only the first word of it and no cause."""
    secrets = [secret for secret in (settings.password, settings.username) if secret]
    cause: BaseException | None = error
    while cause is not None:
        if any(secret in str(cause) for secret in secrets):
            first = str(error).partition(" ")[0]
            told = "" if any(secret in first for secret in secrets) else first
            kind = ReplyError if isinstance(error, ReplyError) else theirs.ResponseError
            return kind(f"{told} (the rest repeats a credential)")
        cause = cause.__cause__ or cause.__context__
    return error
