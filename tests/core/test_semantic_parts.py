"""The parts of semantic keys, each alone: embedders, the index, vector records, partitions, calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentcache_core.errors import ConfigurationError, CorruptFrame, EmbedderError
from agentcache_core.keys import KeyBuilder, ToolCall
from agentcache_core.model import CacheControl
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.semantic import (
    Encoder,
    FunctionEmbedder,
    Guard,
    NotCalibrated,
    Semantic,
    bounded,
    load_calibration,
)
from agentcache_core.semantic.calibration import Calibration, calibrate, error_upper_bound, prove
from agentcache_core.semantic.index import FlatIndex
from agentcache_core.semantic.partition import Bypass, Place, place_of, unfit
from agentcache_core.semantic.record import VectorRecord, decode_record, encode_record


def unit(*numbers: float) -> Any:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


# Embedders


def encode(encoder: Encoder, *texts: str) -> Any:
    return drive(encoder.encode(BLOCKING, list(texts)))


def test_embeddings_are_normalised_remembered_and_asked_for_in_one_batch() -> None:
    asked: list[list[str]] = []

    def embed(texts: Any) -> Any:
        asked.append(list(texts))
        return [[3.0 * len(text), 4.0] for text in texts]

    encoder = Encoder(FunctionEmbedder(embed))
    rows = encode(encoder, "a", "bb", "a")
    assert rows.shape == (3, 2)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0)
    encode(encoder, "bb", "ccc")
    assert asked == [["a", "bb"], ["ccc"]]


def test_the_memo_forgets_what_was_used_longest_ago() -> None:
    asked: list[str] = []

    def embed(texts: Any) -> Any:
        asked.extend(texts)
        return np.ones((len(texts), 2), np.float32)

    encoder = Encoder(FunctionEmbedder(embed), memo=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        encode(encoder, text)
    assert asked == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.full((1, 3), np.nan, np.float32), "NaN"),
        (np.zeros((1, 3), np.float32), "length 0"),
        (np.ones((2, 3), np.float32), "shape"),
        (np.ones(3, np.float32), "shape"),
        (np.ones((1, 3), np.int64), "dtype"),
        ([[1.0, 2.0], [1.0]], "lengths"),
    ],
)
def test_a_nonsensical_answer_is_a_clear_error(answer: Any, said: str) -> None:
    with pytest.raises(EmbedderError, match=said):
        encode(Encoder(FunctionEmbedder(lambda texts: answer)), "a")


def test_a_changed_dimension_or_dtype_is_a_clear_error() -> None:
    answers: list[Any] = [np.ones((1, 3), np.float32), np.ones((1, 4), np.float32), np.ones((1, 3), np.float64)]
    encoder = Encoder(FunctionEmbedder(lambda texts: answers.pop(0)))
    encode(encoder, "a")
    with pytest.raises(EmbedderError, match="dimension changed from 3 to 4"):
        encode(encoder, "b")
    with pytest.raises(EmbedderError, match="dtype changed from float32 to float64"):
        encode(encoder, "c")


def test_an_empty_text_is_a_clear_error() -> None:
    with pytest.raises(EmbedderError, match="empty"):
        encode(Encoder(FunctionEmbedder(lambda texts: np.ones((1, 2), np.float32))), "  ")


def test_what_is_no_embedder_is_refused_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="embedder must be"):
        Semantic(embedder=42)


# The index


class FlatIndexAgainstADict(RuleBasedStateMachine):
    """The index answers what a plain dict with a full sort would."""

    def __init__(self) -> None:
        super().__init__()
        self.index = FlatIndex(3)
        self.truth: dict[bytes, Any] = {}

    vectors = st.tuples(*[st.integers(-5, 5)] * 3).filter(any).map(lambda v: unit(*v))
    idents = st.integers(0, 12).map(lambda n: b"id%d" % n)

    @rule(ident=idents, vector=vectors)
    def add(self, ident: bytes, vector: Any) -> None:
        self.index.add(ident, vector)
        self.truth[ident] = vector

    @rule(ident=idents)
    def remove(self, ident: bytes) -> None:
        assert self.index.remove(ident) == (self.truth.pop(ident, None) is not None)

    @rule()
    def reload(self) -> None:
        saved = self.index.save()
        self.index = FlatIndex(3)
        self.index.load(saved)

    @rule(vector=vectors, k=st.integers(1, 5), floor=st.sampled_from([-1.0, 0.0, 0.5, 0.9]))
    def search(self, vector: Any, k: int, floor: float) -> None:
        found = self.index.nearest(vector, k, floor=floor)
        scores = sorted((float(v @ vector) for v in self.truth.values()), reverse=True)
        expected = [score for score in scores if score >= floor - 1e-5][:k]
        near = [score for score in scores if score >= floor + 1e-5][:k]
        assert len(near) <= len(found) <= len(expected)
        assert [score for _, score in found] == pytest.approx(expected[: len(found)], abs=1e-4)
        assert all(float(self.truth[ident] @ vector) == pytest.approx(score, abs=1e-4) for ident, score in found)

    @invariant()
    def same_members(self) -> None:
        assert len(self.index) == len(self.truth)
        assert set(self.index) == set(self.truth)


TestFlatIndex = FlatIndexAgainstADict.TestCase
TestFlatIndex.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("saved", [b"", b"\x04\0\0\0\0\0\0\0", b"\x03\0\0\0\x01\0\0\0\x02\0ab"])
def test_a_damaged_saved_index_is_refused(saved: bytes) -> None:
    with pytest.raises(ValueError, match="index"):
        FlatIndex(3).load(saved)


# Vector records

RECORDS = st.builds(
    VectorRecord,
    st.binary(min_size=32, max_size=32),
    st.sampled_from(["text", "chat"]),
    st.text(max_size=40),
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6).map(lambda v: np.array(v, np.float32)),
    st.floats(0, 2e9),
    st.none() | st.floats(0, 4e9),
    st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
    st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
)


@given(RECORDS)
def test_a_vector_record_comes_back_as_it_was(record: VectorRecord) -> None:
    back = decode_record(encode_record(record))
    for name in ("digest", "kind", "text", "created_at", "expires_at", "denied", "promoted"):
        assert getattr(back, name) == getattr(record, name)
    assert np.array_equal(back.vector, record.vector)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_vector_record(data: bytes) -> None:
    with pytest.raises(CorruptFrame):
        decode_record(data)


@given(RECORDS, st.integers(0, 400))
def test_a_cut_vector_record_is_refused(record: VectorRecord, at: int) -> None:
    data = encode_record(record)
    if at < len(data):
        with pytest.raises(CorruptFrame):
            decode_record(data[:at])


# Partitions

KEYS = KeyBuilder(tenant="t", namespace="n")


def place(request: Any, **control: Any) -> Place | Bypass:
    asked = CacheControl(**control)
    return place_of(KEYS, request, KEYS.key(request, sample=asked.sample), asked)


def messages(*listed: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(listed)}


USER = {"role": "user", "content": "why?"}


def test_only_the_last_user_text_is_compared_and_all_else_is_the_partition() -> None:
    one, two = place(messages(USER)), place(messages({"role": "user", "content": "how?"}))
    assert isinstance(one, Place)
    assert isinstance(two, Place)
    assert (one.text, two.text) == ("why?", "how?")
    assert one.partition == two.partition
    earlier = place(messages({"role": "system", "content": "x"}, USER))
    assert isinstance(earlier, Place)
    assert earlier.partition != one.partition
    assert isinstance(place({**messages(USER), "temperature": 0}), Place)
    assert place({**messages(USER), "temperature": 0}) != one


def test_the_partition_knows_tenant_and_namespace() -> None:
    found = set()
    for tenant, namespace in (("t", "n"), ("t", "m"), ("u", "n"), ("tn", "")):
        keys = KeyBuilder(tenant=tenant, namespace=namespace)
        for request in (messages(USER), "why?"):
            answer = place_of(keys, request, keys.key(request), CacheControl())
            assert isinstance(answer, Place)
            found.add(answer.partition)
    assert len(found) == 8


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "m", "input": "why?"},
        {"model": "m", "input": [{"role": "user", "content": "why?"}]},
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "why?"}]}]},
        messages({"role": "user", "content": [{"type": "text", "text": "why?"}]}),
        messages(
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]},
            {"role": "assistant", "content": "done"},
            USER,
        ),
    ],
)
def test_every_shape_of_a_users_text_is_found(request_: Any) -> None:
    found = place(request_)
    assert isinstance(found, Place)
    assert found.text == "why?"


IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (messages({"role": "user", "content": [{"type": "text", "text": "why?"}, IMAGE]}), "attachments"),
        (messages({"role": "user", "content": [IMAGE, {"type": "text", "text": "why?"}]}), "attachments"),
        (
            messages({"role": "user", "content": [IMAGE]}, {"role": "assistant", "content": "a cat"}, USER),
            "attachments",
        ),
        ({**messages(USER), "attachments": ["x"]}, "attachments"),
        ({"model": "m", "input": [{"type": "input_image"}, USER]}, "attachments"),
        (messages(USER, {"role": "tool", "tool_call_id": "1", "content": "x"}), "tool result"),
        ({"model": "m", "input": [USER, {"type": "function_call_output", "output": "x"}]}, "tool result"),
        (messages({"role": "user", "content": [{"type": "tool_result", "content": "x"}]}), "tool result"),
        (messages(USER, {"role": "assistant", "content": "Because"}), "not the user's"),
        (messages({"role": "user", "content": " "}), "empty"),
        (messages(), "no messages"),
        (b"bytes", "bytes"),
        (ToolCall("f", {"x": 1}), "tool"),
        ({"anything": 1}, "generic"),
    ],
)
def test_what_cannot_be_matched_safely_is_not_and_says_why(request_: Any, reason: str) -> None:
    found = place(request_)
    assert isinstance(found, Bypass)
    assert reason in found.reason


def test_a_caller_may_forbid_it() -> None:
    assert place(messages(USER), semantic=False) == Bypass("semantic=False")
    assert isinstance(place(messages(USER), sample=1), Bypass)


def test_a_whole_answer_is_fit() -> None:
    assert unfit({"choices": [{"finish_reason": "stop", "message": {"content": "yes", "refusal": None}}]}) is None
    assert unfit({"stop_reason": "end_turn", "content": [{"type": "text", "text": "yes"}], "error": None}) is None
    assert unfit("Paris") is None


# Calibration


def test_the_upper_bound_is_clopper_and_pearsons() -> None:
    assert error_upper_bound(0, 1) == pytest.approx(0.95)
    assert error_upper_bound(0, 299) == pytest.approx(0.01, abs=1e-4)
    assert error_upper_bound(1, 10) == pytest.approx(0.39416, abs=1e-4)
    assert error_upper_bound(5, 5) == 1.0
    assert error_upper_bound(0, 0) == 1.0


@given(st.integers(0, 40), st.integers(1, 400))
def test_the_upper_bound_lies_above_the_rate_and_falls_with_more_pairs(errors: int, count: int) -> None:
    if errors <= count:
        bound = error_upper_bound(errors, count)
        assert errors / count <= bound <= 1.0
        assert error_upper_bound(errors, count + 50) <= bound + 1e-9


def test_no_threshold_qualifies_for_too_few_or_too_wrong_pairs() -> None:
    assert prove([0.99] * 50, [True] * 50, 0.01) is None
    assert prove([0.99] * 2000, [n % 5 > 0 for n in range(2000)], 0.01) is None


def test_the_bound_holds_in_all_but_a_share_of_calibrations() -> None:
    rng = np.random.default_rng(7)
    broken = 0
    for _ in range(200):
        scores = rng.uniform(0.8, 1.0, 1500)
        wrong = rng.uniform(size=1500) < np.clip(1.0 - scores, 0, 1) * 0.5  # true error is half of 1 - score
        proof = prove(scores.tolist(), (~wrong).tolist(), 0.03)
        if proof is not None:
            broken += (1.0 - proof.threshold) / 4 > 0.03  # the mean error above the threshold
    assert broken <= 20


def test_a_calibration_file_is_bound_to_embedder_and_guards(tmp_path: Path) -> None:
    embedder = FunctionEmbedder(lambda texts: np.ones((len(texts), 2), np.float32), fingerprint="mine:1")
    other = FunctionEmbedder(lambda texts: np.ones((len(texts), 2), np.float32), fingerprint="mine:2")
    version = Semantic(embedder=embedder).guards_version
    rows = [(0.9 + n / 20000, True, True) for n in range(1000)] + [(0.5, False, False)]
    calibrate(rows, fingerprint="mine:1", guards_version=version).save(tmp_path / "c.json", max_error=0.01)
    kept = load_calibration(tmp_path / "c.json")
    assert (kept.pairs, len(kept.scores)) == (1001, 1000)
    semantic = Semantic(embedder=embedder, max_error=0.01, calibration=tmp_path / "c.json")
    assert semantic.policy.threshold == pytest.approx(0.9)
    ruling = semantic.policy.rule(0.96)
    assert ruling.serve
    assert ruling.bound is not None
    assert ruling.bound >= 0.99
    assert not semantic.policy.rule(0.89).serve
    with pytest.raises(ConfigurationError, match="another embedder"):
        Semantic(embedder=other, max_error=0.01, calibration=tmp_path / "c.json")
    with pytest.raises(ConfigurationError, match="another guards"):
        Semantic(embedder=embedder, guards=[Guard("x", lambda pair: None)], max_error=0.01, calibration=kept)


def test_uncalibrated_and_bounded_serves_nothing_and_says_so_once() -> None:
    with pytest.warns(NotCalibrated, match="serves nothing: it is not calibrated") as told:
        semantic = Semantic(embedder=lambda texts: texts, max_error=0.01)
    assert len(told) == 1
    assert not semantic.policy.rule(1.0).serve
    assert semantic.policy.threshold > 1.0


def test_a_reported_failure_tightens_the_bound() -> None:
    scores = tuple(0.9 + n / 20000 for n in range(1000))
    before = bounded(0.01, calibration=Calibration("e", "g", scores, (True,) * 1000))
    after = before
    for _ in range(8):
        after = after.learn(0.9995, correct=False)
    assert after.threshold > before.threshold
    assert not after.rule(0.93).serve


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"format": 9}), json.dumps({"format": 1, "scores": [1], "correct": []})]
)
def test_what_is_no_calibration_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"c\.json"):
        load_calibration(tmp_path / "c.json")


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"max_error": 2.0},
        {"audit": -1},
        {"mode": "sometimes"},
        {"verifier": 3},
        {"guards": [print]},
        {"guards": [Guard("x", lambda pair: None), Guard("x", lambda pair: None)]},
        {"calibration": "no-such-file.json", "max_error": 0.01},
        {"calibration": "no-such-file.json"},
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Semantic(embedder=lambda texts: texts, **options)
