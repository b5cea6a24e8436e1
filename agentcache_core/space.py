"""A space: one namespace of one tenant, with what this process knows of it.

The wall between tenants is drawn here: names, digests and figures of a space are derived from its tenant and its
namespace, and nothing of a space is ever looked up by another's.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import NamedTuple

from blake3 import blake3

from agentcache_core.access import AccessLog
from agentcache_core.forking import watch
from agentcache_core.keys import Key, KeyBuilder
from agentcache_core.stats import Counters


class Generation(NamedTuple):
    """The state of a namespace on its authority.

    `lineage` is random and compared for equality only: a new one makes every entry that names another unservable.
    Within a lineage `seq` counts changes; `cut` is the seq of the last invalidation or removal, `lost` of the last
    overwrite that a middle tier may have missed, `bans` of the last change of the ban list.
    """

    lineage: bytes
    seq: int = 0
    cut: int = 0
    lost: int = 0
    bans: int = 0


class Ban(NamedTuple):
    """A pattern invalidation: entries with a smaller seq whose plain key matches the glob are not served."""

    seq: int
    pattern: str


class Stamp(NamedTuple):
    """What a computation knew when it began; the entry it leads to names exactly this."""

    lineage: bytes
    seq: int
    tags: tuple[tuple[str, bytes], ...]


class Space:
    """One namespace of one tenant.

    `version` changes whenever an entry that was servable may no longer be, so that a copy read before is not kept
    after. `trusted_until` is the monotonic time up to which near copies may be served without asking the authority.
    `doubted` says that an older generation was read than one known: the authority may have lost changes.
    `cuts` are the invalidations seen while something was being computed (`computing` > 0).
    """

    __slots__ = (
        "__weakref__",
        "access",
        "bans",
        "computing",
        "counters",
        "cut_seq",
        "cuts",
        "doubted",
        "generation",
        "keys",
        "lock",
        "namespace",
        "observed",
        "position",
        "prefix",
        "secret",
        "tag_epochs",
        "tenant",
        "tenant_prefix",
        "trusted_until",
        "version",
    )  # fmt: skip

    def __init__(self, tenant: str, namespace: str, secret: bytes | None) -> None:
        self.tenant = tenant
        self.namespace = namespace
        self.secret = secret
        self.keys = KeyBuilder(tenant=tenant, namespace=namespace, secret=secret)
        self.tenant_prefix = _digest(b"tenant", secret, tenant)[:8].hex().encode()
        self.prefix = self.tenant_prefix + _digest(b"namespace", secret, tenant, namespace)[:8].hex().encode()
        self.counters = Counters()
        self.generation: Generation | None = None
        self.observed: tuple[bytes, Generation] | None = None  # the record last read, and what it says
        self.tag_epochs: dict[str, bytes] = {}
        self.bans: tuple[Ban, ...] | None = None  # not known, or not known any more
        self.doubted = False
        self.version = 0
        self.trusted_until = 0.0
        self.cut_seq = 0
        self.after_fork()
        watch(self)
        self.position = b""

    def after_fork(self) -> None:
        """Nobody computes, nobody holds the lock, and what the parent noted is the parent's to write."""
        self.access = AccessLog()
        self.lock = threading.Lock()
        self.computing = 0
        self.cuts: list[tuple[int, str, Hashable]] = []

    def turn(self, generation: Generation | None, bans: tuple[Ban, ...] | None) -> None:
        """Go by another generation from here on; the lock is held. In this order, and `verdict` looks at the generation
        before and after the rest: so nobody who holds no lock goes by the bans or epochs of two generations."""
        self.bans = None
        self.tag_epochs = {}
        self.generation = generation
        self.bans = bans

    # Names on a backend. The first path segment is the namespace, or the tenant for what its namespaces share.

    def entry_name(self, key: Key) -> bytes:
        return self.prefix + b"/e/" + key.digest

    def tag_name(self, tag: str, *, prefix: bytes | None = None) -> bytes:
        """Where a tag's epoch lies: in this namespace, or in the one of this tenant that `prefix` stands for."""
        return (prefix or self.prefix) + b"/t/" + _digest(b"tag", self.secret, tag)[:16]

    @property
    def access_prefix(self) -> bytes:
        return self.prefix + b"/a/"

    @property
    def entries_prefix(self) -> bytes:
        return self.prefix + b"/e/"

    @property
    def generation_name(self) -> bytes:
        return self.prefix + b"/g"

    @property
    def bans_name(self) -> bytes:
        return self.prefix + b"/b"

    def blob_name(self, digest: bytes) -> bytes:
        return self.tenant_prefix + b"/x/" + digest

    @property
    def blobs_prefix(self) -> bytes:
        return self.tenant_prefix + b"/x/"

    def lease_name(self, key: Key) -> bytes:
        return self.prefix + b"/l/" + key.digest

    def derived(self, purpose: str) -> bytes:
        """A 32-byte key for `purpose`, different for every tenant and secret."""
        return _digest(b"derive", self.secret, self.tenant, purpose)


def _digest(purpose: bytes, secret: bytes | None, *parts: str) -> bytes:
    """BLAKE3 over length-prefixed parts, keyed by `secret` where there is one."""
    hasher = blake3(derive_key_context="agentcache 1 " + purpose.decode())
    for part in ((secret or b""), *(part.encode("utf-8", "surrogatepass") for part in parts)):
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()
