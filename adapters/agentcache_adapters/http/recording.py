"""A stored answer: its record, the value that goes into the cache, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentcache_adapters.http.messages import Headers

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Recording:
    """One whole answer.

    `ends` are the offsets in `body` where each event of a stream ends, `delays` the microseconds that passed before
    each of them; both are empty for an answer that is not an event stream.
    """

    status: int
    headers: Headers
    body: bytes
    ends: tuple[int, ...] = ()
    delays: tuple[int, ...] = ()

    @property
    def streamed(self) -> bool:
        return bool(self.ends)

    def parts(self) -> Iterator[tuple[float, bytes]]:
        """Pairs of (seconds to wait at recorded pace, bytes), one per event; one pair for a plain body."""
        if not self.streamed:
            yield 0.0, self.body
            return
        begin = 0
        for end, delay in zip(self.ends, self.delays, strict=True):
            yield delay / 1e6, self.body[begin:end]
            begin = end

    def replay_headers(self) -> Headers:
        """The stored headers, with the length of a plain body."""
        if self.streamed:
            return self.headers
        return (*self.headers, ("content-length", str(len(self.body))))


def to_value(recording: Recording) -> dict[str, object]:
    """The value stored in the cache: only types that every codec keeps as they are."""
    value: dict[str, object] = {
        "agentcache_http": _VERSION,
        "status": recording.status,
        "headers": [[name, text] for name, text in recording.headers],
        "body": recording.body,
    }
    if recording.streamed:
        value["ends"], value["delays"] = list(recording.ends), list(recording.delays)
    return value


def from_value(value: object) -> Recording | None:
    """The recording in `value`, None when it is anything else: foreign values are a miss, never an error."""
    match value:
        case {"agentcache_http": version, "status": int(status), "headers": list(pairs), "body": bytes(body)}:
            if version != _VERSION or not all(_is_pair(pair) for pair in pairs):
                return None
            timing = _timing(value, len(body))
            if timing is None:
                return None
            return Recording(status, tuple((n, t) for n, t in pairs), body, *timing)
    return None


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _timing(value: object, size: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Ends and delays of a stored stream, both empty for a plain body, None when they do not fit the body."""
    match value:
        case {"ends": list(ends), "delays": list(delays)} if len(ends) == len(delays) > 0:
            if not all(isinstance(number, int) and number >= 0 for number in (*ends, *delays)):
                return None
            return (tuple(ends), tuple(delays)) if ends == sorted(ends) and ends[-1] == size else None
        case {"ends": _} | {"delays": _}:
            return None
    return (), ()
