"""Bytes written by every version of the format so far open today, and today's writer still writes the same.

The files under `golden/v1` are never changed. `python tests/core/test_codec_golden.py` writes those that are missing
(after a case has been added here), and leaves the others alone.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import hashlib
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agentcache_core.codec import frame
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import dumps, loads
from agentcache_core.model import Cost
from agentcache_core.records import decode_bans, decode_generation, encode_bans, encode_generation
from agentcache_core.space import Ban, Generation
from agentcache_core.store.entries import BlobRef, EntryRecord, decode_entry, encode_entry
from agentcache_core.store.manifest import PAGE, PLACE, Index, Manifest, Page, Table, decode_page, encode_page

GOLDEN = Path(__file__).with_name("golden") / "v1"
LIMIT = 1_000_000

VALUES: dict[str, object] = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, -1, 127, 128, -33, 2**31, 2**63 - 1, -(2**63), 2**64 - 1],
    "big-integers": [2**64, -(2**63) - 1, 10**40, -(10**40)],
    "floats": [0.0, -0.0, 1.0, 1e308, 5e-324],
    "text": "plain, \u00e9\u20ac\U0001f600 and \x00",
    "bytes": b"\x00\xff",
    "response": {
        "id": "r1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": None}}],
        "usage": {"b": 1, "a": 2.5},
    },
    "tuple": (1, (2.0, "x"), [()]),
    "sets": [{3, 1, 2}, frozenset({"b", "a"}), {(1, 2), None, b"x"}, set(), frozenset()],
    "naive-datetime": dt.datetime(2026, 11, 21, 1, 2, 3, 456789),
    "datetime-utc": dt.datetime(2026, 11, 21, 1, 2, 3, tzinfo=dt.UTC),
    "datetime-offset": dt.datetime(2026, 11, 21, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    "datetime-named-offset": dt.datetime(2026, 11, 21, tzinfo=dt.timezone(dt.timedelta(hours=1), "mine")),
    "datetime-zone-fold": dt.datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
    "date": dt.date(2026, 11, 21),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "decimals": [decimal.Decimal("1.10"), decimal.Decimal("-0"), decimal.Decimal("1E+30")],
}

ENTRY = EntryRecord(
    "chat",
    1_700_000_000.25,
    dumps(VALUES["response"]) * 4,
    plain="answer:42",
    stale_at=1_700_000_060.0,
    stale_while_revalidate=30.0,
    stale_if_error=600.0,
    expires_at=1_700_000_660.0,
    tags=(("policy", b"t" * 16), ("weather", b"w" * 16)),
    sources=(("https://example.org/", b"s" * 16),),
    lineage=b"l" * 16,
    seq=7,
    ns_epoch=b"n" * 16,
    cost=Cost(1200, 10, 2, 30, 1.5),
    content_type="application/json",
    meta={"status": 200},
    request=b'{"model":"m"}',
)
POINTING = dataclasses.replace(ENTRY, payload=None, blob=BlobRef(bytes(range(32)), 123_456), request=None)
LEAST = EntryRecord("text", 0.0, b"\xc0")
COPY = dataclasses.replace(ENTRY, confirmed=11)

FRAMES: dict[str, tuple[EntryRecord, Pipeline]] = {
    "entry-plain": (ENTRY, Pipeline(compression=None)),
    "entry-zstd": (ENTRY, Pipeline()),
    "entry-encrypted": (ENTRY, Pipeline(keyring=Keyring({5: b"golden key of thirty-two bytes!!"}), tenant="acme")),
    "entry-blob": (POINTING, Pipeline(compression=None)),
    "entry-least": (LEAST, Pipeline()),
    "entry-copy": (COPY, Pipeline(compression=None)),
}
LOOSE = Table(b"".join(digest * 32 + (1000).to_bytes(8, "big") for digest in (b"a", b"b")))
PLACED = Table(
    b"".join(digest * 32 + (1000).to_bytes(8, "big") for digest in (b"a", b"b", b"c")),
    b"p" * 32 + b"q" * 32,
    b"".join(PLACE.pack(*place) for place in ((2, 0, 700), (1, 4096, 800), (0, 0, 0))),
)
PAGES = Index(b"".join(PAGE.pack(digest * 32, 3000, 210_000) for digest in (b"A", b"B")))
MANIFEST, PACKED = Manifest(b"m" * 32, LOOSE), Manifest(b"m" * 32, PLACED)
PAGED = Manifest(b"m" * 32, PAGES, parts=6, level=1)
COVERS, ABOVE = Page(BlobRef(b"A" * 32, 0), 0, 3000), Page(BlobRef(b"B" * 32, 0), 0, 6000)
GENERATION = Generation(b"L" * 16, 9, 8, 7, 6)
BANS = (Ban(3, "user:*"), Ban(9, "[ab]?"))
BLOB = b"one blob, said twice; one blob, said twice; " * 20
RECORDS: dict[str, tuple[object, Callable[[bytes], object], bytes]] = {
    "manifest": (MANIFEST, Manifest.decode, MANIFEST.encode()),
    "manifest-packed": (PACKED, Manifest.decode, PACKED.encode()),
    "manifest-paged": (PAGED, Manifest.decode, PAGED.encode()),
    "page-of-parts": (PLACED.fields, lambda data: decode_page(data, COVERS, 0).fields, encode_page(PLACED, 0)),
    "page-of-pages": (PAGES.fields, lambda data: decode_page(data, ABOVE, 1).fields, encode_page(PAGES, 1)),
    "generation": (GENERATION, decode_generation, encode_generation(GENERATION)),
    "bans": (BANS, lambda data: decode_bans(Pipeline(), b"n", data), encode_bans(Pipeline(), b"n", BANS)),
}
NAMES = {f"value-{name}" for name in VALUES} | set(FRAMES) | {"blob-zstd"} | set(RECORDS)


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


def test_every_golden_file_has_a_case_and_every_case_a_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == NAMES


@pytest.mark.parametrize("name", VALUES)
def test_a_golden_payload_reads_as_its_value_and_is_written_the_same(name: str) -> None:
    payload, value = golden(f"value-{name}"), VALUES[name]
    assert repr_of(loads(payload)) == repr_of(value)
    assert dumps(value) == payload


@pytest.mark.parametrize("name", FRAMES)
def test_a_golden_entry_reads_as_its_record(name: str) -> None:
    record, pipeline = FRAMES[name]
    assert decode_entry(golden(name), pipeline, max_size=LIMIT, bound_to=b"e/golden") == record


@pytest.mark.parametrize("name", ["entry-plain", "entry-blob", "entry-least", "entry-copy"])
def test_a_golden_entry_in_clear_is_written_the_same(name: str) -> None:
    record, pipeline = FRAMES[name]
    assert encode_entry(record, pipeline) == golden(name)


def test_a_golden_blob_reads_as_its_payload() -> None:
    assert Pipeline().open(frame.BLOB, golden("blob-zstd"), max_size=LIMIT).body == BLOB


@pytest.mark.parametrize("name", RECORDS)
def test_a_golden_record_reads_as_what_it_was_and_is_written_the_same(name: str) -> None:
    value, decode, encoded = RECORDS[name]
    assert decode(golden(name)) == value
    assert encoded == golden(name)


def test_digests_are_those_of_the_first_version() -> None:
    digests = [
        Pipeline(tenant=tenant, secret=secret).digest(BLOB) for tenant in ("", "acme") for secret in (None, b"s")
    ]
    assert [digest.hex()[:16] for digest in digests] == [
        "e9cde175066e7677",
        "125f9af3e892a94a",
        "6a4790a86cd48583",
        "1c38b97f0c82a817",
    ]


def repr_of(value: object) -> str:
    """A spelling in which equal values of equal types, and only those, agree (sets sorted, zero signs kept)."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}{sorted(map(repr_of, value))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{list(map(repr_of, value))}"
    return f"{type(value).__name__}:{value!r}"


def write_missing() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    made = {f"value-{name}": dumps(value) for name, value in VALUES.items()}
    made |= {name: encode_entry(record, pipeline, bound_to=b"e/golden") for name, (record, pipeline) in FRAMES.items()}
    made |= {name: encoded for name, (_, _, encoded) in RECORDS.items()}
    made["blob-zstd"] = Pipeline().seal(frame.BLOB, b"", BLOB)
    for name, content in made.items():
        path = GOLDEN / f"{name}.bin"
        if not path.exists():
            path.write_bytes(content)
            sys.stdout.write(f"{path.name} {hashlib.sha256(content).hexdigest()[:12]}\n")


if __name__ == "__main__":
    write_missing()
