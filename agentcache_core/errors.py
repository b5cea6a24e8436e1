"""Every exception the engine raises, in one place.

Only wrong configuration and wrong use raise in normal operation; trouble with storage becomes a miss and an event
(see `agentcache_core.events`) unless the cache was built with `strict=True` or the write asked for `durable=True`.
"""

from __future__ import annotations


class AgentCacheError(Exception):
    """The root of every exception raised by AgentCache."""


class ConfigurationError(AgentCacheError, ValueError):
    """A setting that cannot work; the message says which and how to mend it. Raised at construction only."""


class KeyingError(AgentCacheError, ValueError):
    """A request that has no canonical form; `path` names the offending place, such as `messages[2].content`."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class UnstorableValue(AgentCacheError, TypeError):
    """A value that could not be read back equal in type and value; `path` names the offending place."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class CacheClosed(AgentCacheError, RuntimeError):
    """A call on a cache, or a view of one, after `close()`."""


class RecursiveComputation(AgentCacheError, RuntimeError):
    """A computation that asked for its own key and would wait for itself for ever."""


class LeaderFailed(AgentCacheError):
    """The computation this caller waited for raised an exception that cannot be copied; `__cause__` holds it."""


class NotCached(AgentCacheError, LookupError):
    """`CacheControl(only_if_cached=True)` and nothing servable is stored."""


class ReplayMiss(AgentCacheError, LookupError):
    """A request that is not recorded, in `mode="replay"`; the message holds a field-level diff to the nearest one."""


class BackendError(AgentCacheError):
    """Trouble with storage. Backends translate foreign exceptions into this family, at the seam only."""


class BackendUnavailable(BackendError):
    """The store cannot be reached, refused, or did not answer within the deadline; trying again later may help."""


class BackendFull(BackendError):
    """The store has no room for the write (disk full, out of memory, quota)."""


class BackendReadOnly(BackendError):
    """The store can be read but refuses writes."""


class BackendClosed(BackendError):
    """A call on a backend after `close()`."""


class ForeignStore(BackendError):
    """The place named by the URL holds something that is not ours, or a newer format; nothing was written."""


class CorruptFrame(BackendError):
    """Stored bytes whose frame, checksum or record cannot be trusted. The engine turns it into a miss and an event."""


class UnreadableFrame(CorruptFrame):
    """A whole frame that this program cannot read and another may: a newer version, or a key or dictionary that is
    not held here. A miss and an event, but nothing to remove."""


class MissingDictionary(UnreadableFrame):
    """A frame compressed with a dictionary that is not loaded here (yet): `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the frame needs dictionary {number}, which is not held here")
        self.number = number


class MissingBlob(CorruptFrame):
    """An entry names a blob that is not there (any more). A miss and an event; the entry may go."""


class NotWritten(BackendError):
    """A write asked for as durable (`durable=True` or `strict=True`) that the authority did not acknowledge."""


class EmbedderError(AgentCacheError):
    """An embedder that failed or answered nonsense: NaN, another dimension or dtype, the wrong shape. In normal use a
    miss and an event."""
