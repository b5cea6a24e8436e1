"""The recorder: watches one answer pass, chunk by chunk, and decides at its end whether it may be stored."""

from __future__ import annotations

from dataclasses import dataclass

from agentcache_adapters.http.decoding import Decoder, Identity, decoder_for
from agentcache_adapters.http.headers import stored_headers
from agentcache_adapters.http.messages import ResponseHead
from agentcache_adapters.http.openai_chat import NeverComplete
from agentcache_adapters.http.plan import Plan
from agentcache_adapters.http.recording import Recording
from agentcache_adapters.http.sse import Event, EventParser
from agentcache_adapters.http.verdict import StreamTracker, Verdict, mapping, parsed


@dataclass(frozen=True, slots=True)
class Store:
    """The answer is whole and good."""

    recording: Recording
    verdict: Verdict
    seconds: float


@dataclass(frozen=True, slots=True)
class Discard:
    """The answer must not be stored, and why."""

    reason: str


class Recorder:
    """Follows one answer. `now` is any clock in seconds that does not run backwards; `started` is when the call left.

    It never changes, delays or withholds a byte: it is told of chunks that have passed.
    """

    def __init__(self, plan: Plan, head: ResponseHead, *, started: float) -> None:
        self._plan, self._head = plan, head
        self._started = self._last = started
        self._received = 0
        self._body = bytearray()
        self._ends: list[int] = []
        self._delays: list[int] = []
        self._problem = _head_problem(plan, head)
        self._decoder: Decoder = Identity()
        self._parser: EventParser | None = None
        self._tracker: StreamTracker = NeverComplete("")
        if not self._problem:
            self._prepare()

    def _prepare(self) -> None:
        decoder = decoder_for(self._head.header("content-encoding"))
        if decoder is None:
            self._problem = f"content-encoding {self._head.header('content-encoding')} cannot be read here"
            return
        self._decoder = decoder
        if self._head.media_type == "text/event-stream":
            self._parser = EventParser()
            self._tracker = _tracker(self._plan)

    @property
    def watching(self) -> bool:
        """Whether the answer may still turn out to be storable."""
        return not self._problem

    @property
    def terminal(self) -> bool:
        """Whether the event that ends the stream has passed; plain bodies end with their last byte instead."""
        return self._tracker.terminal

    def feed(self, chunk: bytes, now: float) -> None:
        """Tell the recorder of bytes that passed at `now`. Never raises: what it cannot follow it does not store."""
        if self._problem:
            return
        self._received += len(chunk)
        try:
            self._follow(self._decoder.decode(chunk), now)
        except Exception as error:  # noqa: BLE001 - the reader must not suffer for what an answer looks like
            self._give_up(f"the answer cannot be followed: {type(error).__name__}: {error}")

    def _follow(self, decoded: bytes, now: float) -> None:
        if self._parser is None:
            self._body += decoded
        else:
            for event in self._parser.feed(decoded):
                self._event(event, now)
        if len(self._body) > self._plan.max_body:
            self._give_up(f"the answer is larger than {self._plan.max_body} bytes")

    def _event(self, event: Event, now: float) -> None:
        self._body += event.raw
        self._ends.append(len(self._body))
        self._delays.append(max(0, round((now - self._last) * 1e6)))
        self._last = now
        self._tracker.feed(event)

    def _give_up(self, reason: str) -> None:
        self._problem = reason
        self._body.clear()
        self._ends.clear()
        self._delays.clear()

    def finish(self, now: float, *, complete: bool) -> Store | Discard:
        """The decision. `complete` says that the body ran to its end.

        A stream may also be closed after its terminal event.
        """
        if self._problem:
            return Discard(self._problem)
        if not complete and not self.terminal:
            return Discard("the answer was not read to its end")
        try:
            verdict = self._judge_body() if self._parser is None else self._judge_stream(now)
        except Exception as error:  # noqa: BLE001 - the reader must not suffer for what an answer looks like
            return Discard(f"the answer cannot be judged: {type(error).__name__}: {error}")
        if not verdict.storable:
            return Discard(verdict.reason)
        recording = Recording(
            self._head.status,
            stored_headers(self._head),
            bytes(self._body),
            tuple(self._ends),
            tuple(self._delays),
        )
        return Store(recording, verdict, max(0.0, now - self._started))

    def _judge_stream(self, now: float) -> Verdict:
        if self._parser is not None and self._parser.rest:
            self._event(Event(self._parser.rest, "", ""), now)
        return self._tracker.verdict()

    def _judge_body(self) -> Verdict:
        length = self._head.header("content-length")
        if length.isdigit() and int(length) != self._received:
            return Verdict(f"{self._received} of {length} bytes arrived")
        if not self._decoder.whole:
            return Verdict("the encoded body stops in the middle")
        if self._plan.wire is None:
            return Verdict()
        try:
            answer = mapping(parsed(self._body))
        except ValueError:
            return Verdict("the answer is not JSON")
        return self._plan.wire.judge(answer)


def _head_problem(plan: Plan, head: ResponseHead) -> str:
    if head.status != 200:
        return f"status {head.status}"
    if plan.wire is None and "no-store" in head.header("cache-control").lower():
        return "the server says no-store"
    return ""


def _tracker(plan: Plan) -> StreamTracker:
    if plan.wire is not None:
        return plan.wire.tracker()
    if plan.rule is not None and plan.rule.stream_end is not None:
        return _EndsWith(plan.rule.stream_end)
    return NeverComplete("the rule names no stream_end")


class _EndsWith:
    """Ends at the event whose data is the one the rule names."""

    def __init__(self, end: str) -> None:
        self._end = end
        self.terminal = False

    def feed(self, event: Event) -> None:
        self.terminal = self.terminal or event.data.strip() == self._end

    def verdict(self) -> Verdict:
        return Verdict("" if self.terminal else f"the stream ended before {self._end}")
