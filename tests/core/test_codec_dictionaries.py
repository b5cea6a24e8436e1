"""Dictionaries: trained where they pay, found by every reader, never another tenant's."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.backend import Stored
from agentcache_core.codec import frame
from agentcache_core.codec.dictionary import MIN_SAMPLES, DictionarySet, compressed_size, load, train
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import dumps
from agentcache_core.errors import MissingDictionary
from agentcache_core.testing import DictBackend, FaultyBackend

WORDS = ["the", "answer", "to", "your", "question", "depends", "on", "weather", "flights", "refund", "customer"]


def answer(number: int) -> dict[str, Any]:
    """Something like a model's response: much that is always the same, and some text that is not."""
    draw = random.Random(number)
    return {
        "id": f"chatcmpl-{draw.getrandbits(120):030x}",
        "object": "chat.completion",
        "created": 1_700_000_000 + draw.randrange(10**7),
        "model": "a-model-of-some-length-2026-01-01",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": " ".join(draw.choices(WORDS, k=draw.randrange(20, 300))),
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": draw.randrange(5000), "completion_tokens": draw.randrange(900), "details": {}},
        "system_fingerprint": f"fp_{draw.getrandbits(40):010x}",
    }


SAMPLES = [dumps(answer(number)) for number in range(800)]


def test_a_dictionary_makes_unseen_answers_smaller() -> None:
    trained = train(SAMPLES[:700])
    assert trained is not None
    unseen = SAMPLES[700:]
    assert compressed_size(unseen, load(trained.content)) < 0.92 * compressed_size(unseen)
    assert 0 < trained.ratio < 0.92


def test_nothing_is_trained_where_it_would_not_pay() -> None:
    assert train(SAMPLES[: MIN_SAMPLES - 1]) is None
    assert train([os.urandom(2000) for _ in range(600)]) is None
    assert train([b"x" * 3000] * 600) is None
    trained = train(SAMPLES[:700])
    assert trained is not None
    assert train(SAMPLES[:700], load(trained.content)) is None, "the one in use does as well"


def test_a_frame_names_its_dictionary_and_a_reader_without_it_says_which() -> None:
    trained = train(SAMPLES)
    assert trained is not None
    held = DictionarySet()
    held.add(trained.number, "chat", trained.content, 1.0)
    writer = Pipeline(dictionaries=held)
    sealed = writer.seal(frame.BLOB, b"", SAMPLES[0], kind="chat")
    assert len(sealed) < len(Pipeline().seal(frame.BLOB, b"", SAMPLES[0], kind="chat"))
    assert writer.open(frame.BLOB, sealed, max_size=10**6).body == SAMPLES[0]
    with pytest.raises(MissingDictionary) as caught:
        Pipeline().open(frame.BLOB, sealed, max_size=10**6)
    assert caught.value.number == trained.number
    assert len(writer.seal(frame.BLOB, b"", SAMPLES[0], kind="tool")) > len(sealed), "another kind has none"


def filled(backend: Any, **options: Any) -> Cache:
    cache = Cache(backend, maintenance="manual", **options)
    for number in range(700):
        cache.set({"model": "m", "messages": [number]}, answer(number))
    return cache


def size_of(backend: DictBackend) -> int:
    return sum(stat.size for stat in backend.scan(b"") if b"/e/" in stat.name)


@pytest.mark.parametrize("keyring", [None, Keyring({1: b"k" * 32})], ids=["clear", "encrypted"])
def test_maintenance_trains_and_every_process_reads_what_is_written_after(keyring: Keyring | None) -> None:
    backend = DictBackend()
    cache = filled(backend, keyring=keyring)
    assert list(cache.maintain(dry_run=True).dictionaries) == ["chat"]
    assert not [stat for stat in backend.scan(b"") if b"/d" in stat.name[16:19]]
    report = cache.maintain()
    assert report.dictionaries["chat"] < 0.92
    assert cache.maintain().dictionaries == {}, "the new one does as well as another would"
    before = size_of(backend)
    for number in range(700):
        cache.set({"model": "m", "messages": [number]}, answer(number))
    assert size_of(backend) < 0.95 * before
    reader = Cache(backend, keyring=keyring, maintenance="manual")
    requests = [{"model": "m", "messages": [number]} for number in range(700)]
    assert reader.get(requests[0]) == answer(0)
    assert reader.get_many(requests) == [answer(number) for number in range(700)]
    assert reader.stats().errors == 0
    counting = Cache(backend, keyring=keyring, maintenance="manual")
    assert counting.invalidate(namespace="", count=True) == 700


def test_a_lost_dictionary_is_a_miss_and_no_entry_is_removed_for_it() -> None:
    backend = DictBackend()
    cache = filled(backend)
    cache.maintain()
    cache.set("key", "after " * 100)
    request = {"model": "m", "messages": ["new"]}
    cache.set(request, answer(1))
    names = [stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/d/"]
    kept = {name: backend.get(name) for name in names}
    for name in names:
        backend.delete(name)
    reader = Cache(backend, maintenance="manual")
    assert reader.get(request) is MISSING
    assert reader.get("key") == "after " * 100
    assert reader.get_or_compute(request, lambda: answer(2)) == answer(2)
    for name, stored in kept.items():
        assert isinstance(stored, Stored)
        backend.put(name, stored.data)
    assert Cache(backend).get(request) == answer(2)


def test_tenants_have_their_own_dictionaries() -> None:
    backend = DictBackend()
    root = Cache(backend, maintenance="manual")
    for name in ("a", "b"):
        view = root.tenant(name)
        for number in range(300):
            view.set({"model": "m", "messages": [number]}, {**answer(number), "of": name * 50})
    root.tenant("a").maintain()
    names = [stat.name[:16] for stat in backend.scan(b"") if stat.name[16:19] == b"/d/"]
    assert len(names) == 1
    view = root.tenant("b")
    view.set("key", json.dumps(answer(1)))
    assert view.get("key") == json.dumps(answer(1))
    root.tenant("b").maintain()
    assert len({stat.name[:16] for stat in backend.scan(b"") if stat.name[16:19] == b"/d/"}) == 2


def test_a_store_that_fails_while_a_dictionary_is_needed_is_only_a_miss() -> None:
    inner = DictBackend()
    cache = filled(inner)
    cache.maintain()
    request = {"model": "m", "messages": ["new"]}
    cache.set(request, answer(1))
    backend = FaultyBackend(inner)
    reader = Cache(backend, maintenance="manual")
    backend.fail("get", times=1)
    assert reader.get(request) is MISSING
    assert reader.get(request) == answer(1)
