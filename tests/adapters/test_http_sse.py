"""The event parser, whatever the cuts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_adapters.http.sse import EventParser

STREAM = (
    b": ping\n\n"
    b'event: message_start\r\ndata: {"a": "\xc3\xa9"}\r\n\r\n'
    b"data: one\ndata: two\n\n"
    b"id: 7\rdata:three\r\r"
    b"retry: 3\ndata: [DONE]\n\n"
)


def parse(chunks: list[bytes]) -> tuple[list[tuple[str, str]], bytes]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return [(event.name, event.data) for event in events], b"".join(event.raw for event in events) + parser.rest


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(places)]


def test_every_field_form_and_line_end_is_read() -> None:
    events, raw = parse([STREAM])
    assert events == [("", ""), ("message_start", '{"a": "é"}'), ("", "one\ntwo"), ("", "three"), ("", "[DONE]")]
    assert raw == STREAM


@given(st.lists(st.integers(min_value=0), max_size=40))
def test_no_cut_changes_events_or_loses_a_byte(cuts: list[int]) -> None:
    assert parse(cut(STREAM, cuts)) == parse([STREAM])


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0), max_size=20))
def test_any_bytes_pass_whole_however_cut(stream: bytes, cuts: list[int]) -> None:
    whole, raw = parse([stream])
    assert raw == stream
    assert parse(cut(stream, cuts)) == (whole, raw)


def test_a_byte_at_a_time_gives_the_same_events() -> None:
    assert parse([STREAM[i : i + 1] for i in range(len(STREAM))]) == parse([STREAM])


@pytest.mark.parametrize("stream", [b"\xef\xbb\xbfdata: x\n\n", b"data: x\n\n"])
def test_a_byte_order_mark_is_not_part_of_the_first_field(stream: bytes) -> None:
    assert parse([stream[:2], stream[2:]])[0] == [("", "x")]


def test_an_unfinished_block_is_not_an_event() -> None:
    assert parse([b"data: half"]) == ([], b"data: half")
