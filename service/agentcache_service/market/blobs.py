"""Content-addressed stores: bytes kept under the CID of what they are, checked again on every read.

A CID here is version 1, base32, of one raw block hashed with SHA2-256, so that the local store, an IPFS node and a
bucket name the same bytes alike. What goes in is ciphertext or public: a content-addressed store cannot be trusted
to forget.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import httpx2

MAX_BLOCK = 262_144
"""Largest body, in bytes, that IPFS keeps as one raw block, so that its CID is the one computed here."""

_PREFIX = bytes((0x01, 0x55, 0x12, 0x20))
_CID_LENGTH = 59


class BlobError(Exception):
    """A store could not keep or give a blob."""


class BlobMissing(BlobError):
    """The store has no blob under this CID."""


class BlobCorrupt(BlobError):
    """The bytes a store gave are not those the CID names."""


def cid_of(body: bytes) -> str:
    """The CID (version 1, raw, sha2-256, base32) of a body kept as one block."""
    return "b" + base64.b32encode(_PREFIX + hashlib.sha256(body).digest()).decode().lower().rstrip("=")


def checked(cid: str, body: bytes) -> bytes:
    """The body, if it is what the CID names; `BlobCorrupt` otherwise."""
    if cid_of(body) != cid:
        raise BlobCorrupt(f"the content of {cid} is not what its name says")
    return body


def is_cid(text: str) -> bool:
    """True for the one form of CID this room writes; used before a name touches a path or an address."""
    return len(text) == _CID_LENGTH and text[0] == "b" and all(c in "abcdefghijklmnopqrstuvwxyz234567" for c in text)


class BlobStore(Protocol):
    """Keeps bytes by CID. Safe from several threads; putting twice keeps once."""

    def put(self, body: bytes) -> str:
        """Keep a body and return its CID."""
        ...

    def get(self, cid: str) -> bytes:
        """The body of a CID, verified; `BlobMissing` or `BlobCorrupt`."""
        ...

    def remove(self, cid: str) -> None:
        """Stop keeping a body, as far as the store can; no error when it is not there."""
        ...


class LocalCas:
    """A store in a directory: one 0600 file per blob, written aside and renamed into place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, body: bytes) -> str:
        """Keep a body of any size."""
        cid = cid_of(body)
        path = self._path(cid)
        if path.exists():
            return cid
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f".{cid}.{secrets.token_hex(6)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        return cid

    def get(self, cid: str) -> bytes:
        """Read and verify."""
        try:
            return checked(cid, self._path(cid).read_bytes())
        except FileNotFoundError:
            raise BlobMissing(f"no blob {cid}") from None

    def remove(self, cid: str) -> None:
        """Delete the file."""
        self._path(cid).unlink(missing_ok=True)

    def _path(self, cid: str) -> Path:
        if not is_cid(cid):
            raise BlobError("this is not a CID")
        return self._folder / cid[-2:] / cid


class IpfsRpc:
    """A store on an IPFS node through the Kubo RPC; bodies up to one block. `address` is the operator's setting."""

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        if urlsplit(address).scheme not in {"http", "https"}:
            raise BlobError("the address of an IPFS node begins with http:// or https://")
        self._client = httpx2.Client(base_url=address.rstrip("/"), timeout=timeout_s, trust_env=False)

    def put(self, body: bytes) -> str:
        """Add and pin; the node must arrive at the CID computed here."""
        if len(body) > MAX_BLOCK:
            raise BlobError(f"a blob on IPFS holds at most {MAX_BLOCK} bytes")
        options = {"cid-version": "1", "raw-leaves": "true", "pin": "true", "cid-base": "base32"}
        answer = self._ask("add", options, files={"file": ("blob", body)})
        named = str(json.loads(answer.decode().splitlines()[-1]).get("Hash", ""))
        if named != cid_of(body):
            raise BlobCorrupt(f"the node named a blob {named!r}, not {cid_of(body)}")
        return named

    def get(self, cid: str) -> bytes:
        """Read and verify."""
        if not is_cid(cid):
            raise BlobError("this is not a CID")
        return checked(cid, self._ask("cat", {"arg": cid, "length": str(MAX_BLOCK + 1)}))

    def remove(self, cid: str) -> None:
        """Unpin; other nodes may still hold the bytes, which is why only ciphertext is put here."""
        if not is_cid(cid):
            raise BlobError("this is not a CID")
        try:
            self._ask("pin/rm", {"arg": cid})
        except BlobMissing:
            return

    def close(self) -> None:
        """Return connections."""
        self._client.close()

    def _ask(self, call: str, options: dict[str, str], *, files: dict[str, tuple[str, bytes]] | None = None) -> bytes:
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        try:
            answer = self._client.post(f"/api/v0/{call}?{query}", files=files)
        except httpx2.HTTPError as error:
            raise BlobError(f"the IPFS node did not answer: {type(error).__name__}") from error
        if answer.status_code == 500:
            message = answer.text[:200]
            raise BlobMissing(message) if _says_missing(message) else BlobError(message)
        if answer.status_code != 200:
            raise BlobError(f"the IPFS node answered {answer.status_code}")
        return answer.content


def _says_missing(message: str) -> bool:
    return any(sign in message for sign in ("not found", "not pinned", "ould not find", "no link"))
