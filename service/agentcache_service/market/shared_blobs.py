"""Content-addressed bytes in the store that all machines of an installation share."""

from __future__ import annotations

from agentcache_core.errors import BackendError
from agentcache_service.files import SharedFiles

from .blobs import BlobError, BlobMissing, checked, cid_of, is_cid


class SharedCas:
    """A `BlobStore` in one folder of the shared files; what is read is checked against its name, as everywhere."""

    def __init__(self, files: SharedFiles, folder: str) -> None:
        self._files = files
        self._folder = folder

    def put(self, body: bytes) -> str:
        """Keep a body of any size; the same body twice is written over itself."""
        cid = cid_of(body)
        try:
            self._files.put(self._name(cid), body)
        except BackendError as error:
            raise BlobError(f"the shared files did not take a blob: {error}") from error
        return cid

    def get(self, cid: str) -> bytes:
        """Read and verify."""
        try:
            body = self._files.get(self._name(cid))
        except BackendError as error:
            raise BlobError(f"the shared files did not give a blob: {error}") from error
        if body is None:
            raise BlobMissing(f"no blob {cid}")
        return checked(cid, body)

    def remove(self, cid: str) -> None:
        """Forget the blob."""
        try:
            self._files.remove(self._name(cid))
        except BackendError as error:
            raise BlobError(f"the shared files did not remove a blob: {error}") from error

    def _name(self, cid: str) -> str:
        if not is_cid(cid):
            raise BlobError("this is not a CID")
        return f"{self._folder}/{cid}"
