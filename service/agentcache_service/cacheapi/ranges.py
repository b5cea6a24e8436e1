"""Parts of a body: `Range`, `If-Range` and `If-None-Match` of RFC 9110 for one range."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

_BLOCK = 256 << 10

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def parse_range(header: str | None, size: int) -> tuple[int, int] | str | None:
    """(first, last) of the one range asked for; None when there is none to honour; "unsatisfiable" when outside."""
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        length = int(last)
        return "unsatisfiable" if length == 0 or size == 0 else (max(0, size - length), size - 1)
    begin = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if begin >= size:
        return "unsatisfiable"
    return None if end < begin else (begin, end)


@dataclass(frozen=True, slots=True)
class Part:
    """What of a body one request is to be sent: `length` bytes from `first`, with this status and these headers."""

    status: int
    headers: Mapping[str, str]
    first: int
    length: int


def part_of(request: Request, *, size: int, etag: str) -> Part:
    """The whole body, the part asked for (206), nothing new (304), or 416; for `HEAD` the headers alone."""
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Part(304, headers, 0, 0)
    wanted = parse_range(request.headers.get("range"), size)
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    if isinstance(wanted, str):
        return Part(416, {**headers, "Content-Range": f"bytes */{size}"}, 0, 0)
    first, last = wanted or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    length = 0 if request.method == "HEAD" else last - first + 1
    return Part(200 if wanted is None else 206, headers, first, length)


def in_blocks(body: bytes, part: Part) -> Iterator[bytes]:
    """The part of a body in memory, in blocks that copy little at a time."""
    view = memoryview(body)
    for begin in range(part.first, part.first + part.length, _BLOCK):
        yield bytes(view[begin : min(begin + _BLOCK, part.first + part.length)])


def part_response(part: Part, blocks: Iterable[bytes], *, media_type: str, **headers: str) -> Response:
    """The answer with a part of a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if not part.length:
        return Response(status_code=part.status, headers={**part.headers, **named}, media_type=media_type)
    return StreamingResponse(blocks, part.status, {**part.headers, **named}, media_type)
