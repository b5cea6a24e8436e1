"""Real answers of language models, where the measured data are at hand: all come back, and get smaller."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from agentcache_core.codec.compress import compress
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import dumps, loads
from agentcache_core.store.entries import EntryRecord, decode_entry, encode_entry

ROOT = Path(__file__).resolve().parents[2]
RESPONSES = Path(os.environ.get("AGENTCACHE_BENCH_DATA") or ROOT.parent / "shared" / "data") / "llm_responses.jsonl.gz"
pytestmark = pytest.mark.skipif(not RESPONSES.exists(), reason=f"no {RESPONSES}: set AGENTCACHE_BENCH_DATA")


@pytest.fixture(scope="module")
def responses() -> list[Any]:
    with gzip.open(RESPONSES, "rt", encoding="utf-8") as lines:
        return [orjson.loads(line) for line in lines]


def test_every_real_answer_comes_back_as_it_was(responses: list[Any]) -> None:
    assert len(responses) > 1000
    pipeline = Pipeline()
    for response in responses:
        payload = dumps(response)
        back = loads(payload)
        assert back == response
        assert orjson.dumps(back) == orjson.dumps(response), "order and types of numbers included"
        record = EntryRecord("chat", 1.0, payload)
        assert decode_entry(encode_entry(record, pipeline), pipeline, max_size=1 << 24).payload == payload


def test_real_answers_get_smaller(responses: list[Any]) -> None:
    payloads = [dumps(response) for response in responses]
    squeezed = sum(len(compress(payload) or payload) for payload in payloads)
    assert squeezed < 0.75 * sum(map(len, payloads))
