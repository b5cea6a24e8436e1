"""Parts of a body: `Range`, `If-Range` and `If-None-Match` of RFC 9110 for one range."""

from __future__ import annotations

import hashlib
import re

from fastapi import Request, Response

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


def ranged(request: Request, body: bytes, *, media_type: str) -> Response:
    """The whole body, the part asked for (206), nothing new (304), or 416."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    wanted = parse_range(request.headers.get("range"), len(body))
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    if wanted is None:
        return Response(body, media_type=media_type, headers=headers)
    if isinstance(wanted, str):
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{len(body)}"})
    first, last = wanted
    headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return Response(body[first : last + 1], status_code=206, media_type=media_type, headers=headers)
