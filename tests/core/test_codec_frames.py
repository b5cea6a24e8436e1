"""Frames and entries: what was sealed comes back; anything else is a corrupt frame, within bounded memory."""

from __future__ import annotations

import math
import os
import threading
import tracemalloc
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.codec import compress, frame
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import ConfigurationError, CorruptFrame
from agentcache_core.model import Cost
from agentcache_core.store.entries import BlobRef, EntryRecord, decode_entry, encode_entry

RING = Keyring({1: b"k" * 32})
PIPELINES = {
    "zstd": Pipeline(),
    "plain": Pipeline(compression=None),
    "encrypted": Pipeline(keyring=RING, tenant="acme"),
}
LIMIT = 1_000_000

times = st.floats(0, 1e11)
epochs = st.binary(min_size=16, max_size=16)
stamped = st.lists(st.tuples(st.text(max_size=8), epochs), max_size=3).map(tuple)
payloads = st.binary(max_size=300) | st.builds(lambda part, n: part * n, st.binary(max_size=20), st.integers(0, 200))
records = st.builds(
    EntryRecord,
    kind=st.sampled_from(["chat", "text", "tool"]),
    created_at=times,
    payload=payloads,
    plain=st.none() | st.text(max_size=20) | st.binary(max_size=20),
    stale_at=st.none() | times,
    stale_while_revalidate=times,
    stale_if_error=times,
    expires_at=st.none() | times,
    tags=stamped,
    sources=stamped,
    lineage=epochs,
    seq=st.integers(0, 2**63),
    ns_epoch=epochs,
    cost=st.builds(Cost, st.integers(0, 10**9), st.integers(0, 10**6), st.just(0), st.integers(0, 10**6), times),
    content_type=st.none() | st.text(max_size=10),
    meta=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2),
    request=st.none() | st.binary(max_size=100),
)
sealing = st.sampled_from(sorted(PIPELINES))


@given(records, sealing)
def test_an_entry_comes_back_as_it_was(record: EntryRecord, how: str) -> None:
    pipeline = PIPELINES[how]
    assert decode_entry(encode_entry(record, pipeline), pipeline, max_size=LIMIT) == record


@given(records, sealing)
def test_an_entry_that_names_a_blob_comes_back_as_it_was(record: EntryRecord, how: str) -> None:
    import dataclasses

    pipeline = PIPELINES[how]
    pointing = dataclasses.replace(record, payload=None, blob=BlobRef(b"d" * 32, 7_000_000))
    assert decode_entry(encode_entry(pointing, pipeline), pipeline, max_size=LIMIT) == pointing


@given(records, sealing, st.data())
@settings(max_examples=300)
def test_one_changed_byte_anywhere_is_a_corrupt_frame(record: EntryRecord, how: str, data: st.DataObject) -> None:
    pipeline = PIPELINES[how]
    changed = bytearray(encode_entry(record, pipeline))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptFrame):
        decode_entry(bytes(changed), pipeline, max_size=LIMIT)


@given(records, sealing, st.data())
def test_a_frame_cut_short_or_with_bytes_behind_it_is_a_corrupt_frame(
    record: EntryRecord, how: str, data: st.DataObject
) -> None:
    pipeline = PIPELINES[how]
    whole = encode_entry(record, pipeline)
    for torn in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"\x00", b"\x00" * len(whole)):
        with pytest.raises(CorruptFrame):
            decode_entry(torn, pipeline, max_size=LIMIT)


@given(
    st.binary(max_size=200),
    st.integers(0, 255),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 300),
    st.integers(0, 2**40),
)
@settings(max_examples=400)
def test_a_hostile_frame_with_a_good_checksum_is_still_only_a_corrupt_frame(
    sealed: bytes, content: int, compression: int, encryption: int, header_size: int, raw_size: int
) -> None:
    fields = frame.Prefix(content, compression, encryption, 0, 0, header_size, raw_size).pack()
    for pipeline in PIPELINES.values():
        with pytest.raises(CorruptFrame):
            decode_entry(frame.join(fields, sealed), pipeline, max_size=LIMIT)


headers: Any = st.recursive(
    st.none() | st.integers(-5, 2**40) | st.floats() | st.text(max_size=4) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
right: Any = st.sampled_from(["chat", 1.0, None, 0.0, [], ["t", b"e"], b"x" * 16, 3, {}, [b"d" * 32, 9]])


@given(headers, st.lists(headers | right, min_size=17, max_size=18), st.binary(max_size=20))
@settings(max_examples=100)
def test_a_header_of_wrong_fields_is_an_entry_or_a_corrupt_frame(loose: object, fields: object, body: bytes) -> None:
    import ormsgpack

    pipeline = PIPELINES["plain"]
    for header in (loose, fields):
        sealed = pipeline.seal(frame.ENTRY, ormsgpack.packb(header), body)
        try:
            decode_entry(sealed, pipeline, max_size=LIMIT)
        except CorruptFrame:
            continue


def resealed(compression: int, raw_size: int, body: bytes) -> bytes:
    return frame.join(frame.Prefix(frame.BLOB, compression, frame.CLEAR, 0, 0, 0, raw_size).pack(), body)


@pytest.mark.parametrize("claimed", [1_000, 100_000_000, 2**62])
def test_a_zstd_bomb_takes_no_memory(claimed: int) -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFrame):
            Pipeline().open(frame.BLOB, resealed(frame.ZSTD, claimed, bomb), max_size=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


def test_compressed_data_that_does_not_state_its_size_is_refused() -> None:
    unstated = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1000)
    with pytest.raises(CorruptFrame):
        Pipeline().open(frame.BLOB, resealed(frame.ZSTD, 1000, unstated), max_size=LIMIT)


def test_a_second_compressed_frame_behind_the_first_is_refused() -> None:
    twice = zstandard.ZstdCompressor().compress(b"a" * 1000) * 2
    with pytest.raises(CorruptFrame):
        Pipeline().open(frame.BLOB, resealed(frame.ZSTD, 1000, twice), max_size=LIMIT)


def test_what_exceeds_the_allowed_size_is_refused_before_it_is_expanded() -> None:
    sealed = Pipeline().seal(frame.BLOB, b"", b"a" * 2000)
    assert Pipeline().open(frame.BLOB, sealed, max_size=2000).body == b"a" * 2000
    with pytest.raises(CorruptFrame, match="claims 2000"):
        Pipeline().open(frame.BLOB, sealed, max_size=1999)


def test_a_frame_of_another_content_is_refused() -> None:
    with pytest.raises(CorruptFrame, match="content"):
        Pipeline().open(frame.ENTRY, Pipeline().seal(frame.BLOB, b"", b"x"), max_size=LIMIT)


def test_a_frame_of_a_later_version_is_refused_by_its_number() -> None:
    newer = bytearray(Pipeline().seal(frame.BLOB, b"", b"x"))
    newer[2] = 9
    with pytest.raises(CorruptFrame, match="version 9"):
        Pipeline().open(frame.BLOB, bytes(newer), max_size=LIMIT)


def test_text_shrinks_and_media_or_noise_is_left_alone() -> None:
    assert len(Pipeline().seal(frame.BLOB, b"", b"the same words " * 100)) < 200
    for incompressible in (os.urandom(5000), b"\x89PNG\r\n\x1a\n" + b"a" * 5000, b"short"):
        assert len(Pipeline().seal(frame.BLOB, b"", incompressible)) == len(incompressible) + frame.OVERHEAD


def test_media_are_known_by_their_first_bytes() -> None:
    for head in (b"\xff\xd8\xff\xe0", b"RIFF\x00\x00\x00\x00WEBP", b"\x00\x00\x00\x20ftypisom", b"\xff\xfb\x90"):
        assert compress.is_compressed_media(head + b"\x00" * 20)
    assert not compress.is_compressed_media(b"RIFF\x00\x00\x00\x00WAVE")
    assert not compress.is_compressed_media(b'{"id": "chatcmpl"}')


# --- encryption ------------------------------------------------------------------------------------------------


def test_an_encrypted_frame_shows_neither_payload_nor_key_nor_tag() -> None:
    record = EntryRecord("chat", 1.0, b"the payload", plain="the key", tags=(("the tag", b"e" * 16),))
    sealed = encode_entry(record, PIPELINES["encrypted"])
    assert not any(word in sealed for word in (b"payload", b"the key", b"the tag", b"chat"))


def test_an_encrypted_frame_opens_only_under_its_name_its_tenant_and_its_key() -> None:
    here = Pipeline(keyring=RING, tenant="acme")
    sealed = here.seal(frame.BLOB, b"", b"secret", bound_to=b"name")
    assert here.open(frame.BLOB, sealed, max_size=LIMIT, bound_to=b"name").body == b"secret"
    elsewhere = Pipeline(keyring=RING, tenant="other")
    otherwise = Pipeline(keyring=Keyring({1: b"x" * 32}), tenant="acme")
    renumbered = Pipeline(keyring=Keyring({2: b"k" * 32}), tenant="acme")
    for pipeline, name in ((here, b"else"), (elsewhere, b"name"), (otherwise, b"name"), (renumbered, b"name")):
        with pytest.raises(CorruptFrame):
            pipeline.open(frame.BLOB, sealed, max_size=LIMIT, bound_to=name)


def test_with_a_keyring_a_frame_in_clear_is_refused_and_without_one_an_encrypted_frame() -> None:
    clear, encrypted = Pipeline(), PIPELINES["encrypted"]
    with pytest.raises(CorruptFrame, match="not encrypted"):
        encrypted.open(frame.BLOB, clear.seal(frame.BLOB, b"", b"x"), max_size=LIMIT)
    with pytest.raises(CorruptFrame, match="no keyring"):
        clear.open(frame.BLOB, encrypted.seal(frame.BLOB, b"", b"x"), max_size=LIMIT)


def test_an_attacker_who_mends_the_checksum_still_cannot_change_an_encrypted_frame() -> None:
    sealed = PIPELINES["encrypted"].seal(frame.BLOB, b"", b"x" * 100)
    for position in (3, 6, 14, 18, 40, 60, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[position] ^= 1
        fields, rest = bytes(changed[: frame.PREFIX]), bytes(changed[frame.OVERHEAD :])
        for content in (frame.BLOB, frame.RECORD):
            with pytest.raises(CorruptFrame):
                PIPELINES["encrypted"].open(content, frame.join(fields, rest), max_size=LIMIT)


def test_a_rotated_keyring_reads_what_the_old_key_wrote() -> None:
    old, new = Keyring({1: b"o" * 32}), Keyring({1: b"o" * 32, 2: b"n" * 32})
    sealed = Pipeline(keyring=old).seal(frame.BLOB, b"", b"x")
    assert Pipeline(keyring=new).open(frame.BLOB, sealed, max_size=LIMIT).body == b"x"
    with pytest.raises(CorruptFrame, match="key 2"):
        Pipeline(keyring=old).open(frame.BLOB, Pipeline(keyring=new).seal(frame.BLOB, b"", b"x"), max_size=LIMIT)


def test_a_keyring_refuses_what_is_no_key_and_never_shows_one() -> None:
    for keys in ({}, {0: b"k" * 32}, {1: b"short"}, {1: "k" * 32}, {2**32: b"k" * 32}):
        with pytest.raises(ConfigurationError):
            Keyring(keys)  # type: ignore[arg-type]  # some are wrong on purpose
    with pytest.raises(ConfigurationError):
        Keyring({1: b"k" * 32}, primary=2)
    assert "kkk" not in repr(RING)


# --- digests and threads ---------------------------------------------------------------------------------------


def test_digests_differ_between_tenants_and_secrets_and_agree_with_the_running_one() -> None:
    ways = [Pipeline(), Pipeline(tenant="a"), Pipeline(secret=b"s"), Pipeline(tenant="a", secret=b"s")]
    ways += [Pipeline(secret=b"sa"), Pipeline(tenant="sa")]
    assert len({way.digest(b"payload") for way in ways}) == len(ways)
    running = ways[3].hasher()
    running.update(b"pay")
    running.update(b"load")
    assert running.digest() == ways[3].digest(b"payload")


def test_one_pipeline_serves_many_threads_at_once() -> None:
    pipeline = Pipeline()
    wrong: list[int] = []

    def work(number: int) -> None:
        body = f"{number} ".encode() * 500
        for _ in range(100):
            if pipeline.open(frame.BLOB, pipeline.seal(frame.BLOB, b"", body), max_size=LIMIT).body != body:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in ({"compression": "lz4"}, {"level": 0}, {"level": 30}):
        with pytest.raises(ConfigurationError):
            Pipeline(**wrong)


def test_a_frame_adds_thirty_bytes() -> None:
    assert frame.OVERHEAD == 30
    assert math.isclose(len(Pipeline().seal(frame.RECORD, b"h", b"b")), 32)
