"""Values of one's own types in a whole cache: they come back where their type is known, and are a miss where not."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentcache_core import MISSING, AsyncCache, Cache


class Mood(enum.Enum):
    GOOD = 1


@dataclasses.dataclass
class Answer:
    mood: Mood
    parts: tuple[int, ...]


class Model(BaseModel):
    answers: list[int]


ANSWER = Answer(Mood.GOOD, (1, 2))


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/cache.db"


def test_a_type_that_was_named_once_is_known_to_every_later_call(url: str) -> None:
    with Cache(url) as cache:
        cache.set("key", ANSWER, returns=Answer)
        assert cache.get("key") == ANSWER
        assert cache.get("key") is not ANSWER
        assert cache.get_many(["key", "absent"]) == [ANSWER, MISSING]
        hit = cache.lookup("key")
        assert hit is not None
        assert type(hit.value.mood) is Mood
        assert cache.namespace("n").get_or_compute("key", lambda: ANSWER) == ANSWER
        assert cache.namespace("n").get("key") == ANSWER


def test_memoize_takes_the_type_from_the_annotation(url: str) -> None:
    calls: list[int] = []
    with Cache(url) as cache:

        @cache.memoize
        def answer(number: int) -> list[Model]:
            calls.append(number)
            return [Model(answers=[number])]

        assert answer(1) == answer(1) == [Model(answers=[1])]
        assert calls == [1]


def test_a_value_of_a_type_that_nobody_here_knows_is_a_miss_and_stays_for_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    told: list[str] = []
    with Cache(url) as writer, Cache(url) as reader:
        writer.set("key", ANSWER, returns=Answer)
        reader.events.subscribe(lambda event: told.append(event.name))
        assert reader.get("key") is MISSING
        assert reader.lookup("key") is None
        assert reader.get_many(["key"]) == [MISSING]
        assert "unreadable" in told
        assert reader.stats().reasons["a value of unknown type"] == 3
        assert writer.get("key") == ANSWER
        assert reader.get_or_compute("key", lambda: "computed anew") == "computed anew"
        assert reader.get("key") == "computed anew"


def test_the_short_cut_and_the_long_way_agree_on_what_is_unknown() -> None:
    with Cache() as cache:
        cache.set("key", ANSWER, returns=Answer)
        cache._engine.writer.serializers = ()  # as if another part of the program had never named the type
        assert cache.get("key") is MISSING
        assert cache.stats().misses == 1
        assert cache.stats().hits == 0


def test_a_type_that_is_named_nowhere_is_returned_and_not_stored(url: str) -> None:
    with Cache(url) as cache:
        assert cache.get_or_compute("key", lambda: ANSWER) is ANSWER
        assert cache.get("key") is MISSING
        assert cache.stats().reasons["unstorable"] == 1


def test_the_async_face_knows_the_same_types() -> None:
    async def work() -> Any:
        async with AsyncCache() as cache:
            await cache.set("key", ANSWER, returns=Answer)
            return await cache.get("key")

    assert asyncio.run(work()) == ANSWER
