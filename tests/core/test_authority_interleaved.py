"""What is invalidated stays so whatever else happens between any two steps: two bodies on one authority, in every
order of their calls to the store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from agentcache_core.authority import StoredAuthority
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.records import decode_epoch
from agentcache_core.runtime import Immediate, drive
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.testing import DictBackend
from agentcache_core.testing.driving import Stepwise

Body = Coroutine[Any, Any, Any]


class Process:
    """A namespace as one process knows it, on a store that stops before every call."""

    def __init__(self, backend: DictBackend) -> None:
        self.space = Space("", "", None)
        self.slowly = self._authority(Stepwise(backend))
        self.lagging = self._authority(Stepwise(backend, lags=True))
        self.at_once = self._authority(Immediate(backend))

    def _authority(self, store: Any) -> StoredAuthority:
        return StoredAuthority(store, self.space, Pipeline(), monotonic=0.0, max_staleness=5.0, unproven=lambda: None)

    def judges(self, plain: str, *, seq: int, lineage: bytes) -> bool:
        """Whether an entry would be served, after the generation was read."""
        drive(self._observe(self.at_once))
        record = EntryRecord("text", 0.0, b"", plain=plain, lineage=lineage, seq=seq)
        return drive(self.at_once.servable(record))

    async def _observe(self, authority: StoredAuthority) -> None:
        authority.observe((await authority.read([self.space.generation_name]))[0])

    async def looks_up(self, record: EntryRecord) -> bool:
        """What a look-up asks after it has read an entry and the generation with it."""
        await self._observe(self.lagging)
        return await self.lagging.servable(record)


def _ended(body: Body, answers: list[Any]) -> bool:
    try:
        body.send(None)
    except StopIteration as stop:
        answers.append(stop.value)
        return True
    return False


def every_order(play: Callable[[], tuple[Body, Body]]) -> Iterator[list[Any]]:
    """Run two bodies in every order of their steps; after each run what the first and the second answered."""
    prefixes: list[list[int]] = [[]]
    while prefixes:
        prefix = prefixes.pop()
        bodies, turn = list(play()), 0
        answers: list[list[Any]] = [[], []]
        while all(not answer for answer in answers):
            chosen = prefix[turn] if turn < len(prefix) else 0
            if turn >= len(prefix):
                prefixes.append([*prefix, *[0] * (turn - len(prefix)), 1])
            _ended(bodies[chosen], answers[chosen])
            turn += 1
        for which in (0, 1):
            while not answers[which]:
                _ended(bodies[which], answers[which])
        yield [answer[0] for answer in answers]


def _namespace() -> tuple[DictBackend, Process]:
    backend = DictBackend()
    process = Process(backend)
    drive(process.at_once.stamp([]))
    return backend, process


@pytest.mark.parametrize("processes", [1, 2])
def test_two_patterns_invalidated_at_once_are_both_invalidated(processes: int) -> None:
    orders = 0
    made: list[tuple[DictBackend, bytes]] = []

    def play() -> tuple[Body, Body]:
        backend, one = _namespace()
        other = one if processes == 1 else Process(backend)
        assert one.space.generation is not None
        made.append((backend, one.space.generation.lineage))
        return one.slowly.bump(cut=True, ban="a*"), other.slowly.bump(cut=True, ban="b*")

    for _ in every_order(play):
        backend, lineage = made[-1]
        later = Process(backend)
        assert not later.judges("a1", seq=0, lineage=lineage)
        assert not later.judges("b1", seq=0, lineage=lineage)
        assert later.judges("c1", seq=0, lineage=lineage)
        orders += 1
    assert orders > 50


@pytest.mark.parametrize("steps_before", range(1, 6))
@pytest.mark.parametrize("steps_after", range(6))
def test_a_ban_is_not_undone_by_a_writer_of_the_same_pattern_that_dies(steps_before: int, steps_after: int) -> None:
    backend, one = _namespace()
    dying = Process(backend).slowly.bump(cut=True, ban="k*")
    ended: list[Any] = []
    for _ in range(steps_before):
        if not ended:
            _ended(dying, ended)
    drive(one.at_once.bump(cut=True, ban="k*"))
    generation = drive(one.at_once.bump(cut=True, ban="k*"))
    for _ in range(steps_after):
        if not ended:
            _ended(dying, ended)
    dying.close()
    for seq in range(generation.seq):
        assert not Process(backend).judges("k1", seq=seq, lineage=generation.lineage)


@pytest.mark.parametrize("tagged", [True, False])
def test_an_entry_banned_long_ago_is_not_served_while_others_write(tagged: bool) -> None:
    def play() -> tuple[Body, Body]:
        backend, one = _namespace()
        stamp = drive(one.at_once.stamp(["t"] if tagged else []))
        record = EntryRecord("text", 0.0, b"", plain="k1", lineage=stamp.lineage, seq=stamp.seq, tags=stamp.tags)
        drive(one.at_once.bump(cut=True, ban="k*"))
        fresh = Process(backend)  # knows nothing yet, and two of its threads ask and write
        return fresh.looks_up(record), fresh.lagging.bump(cut=False)

    answers = [served for served, _ in every_order(play)]
    assert len(answers) > 5
    assert not any(answers)


@pytest.mark.parametrize("processes", [1, 2])
def test_no_epoch_from_before_an_invalidation_is_remembered_after_it(processes: int) -> None:
    made: list[tuple[DictBackend, Process]] = []

    def play() -> tuple[Body, Body]:
        backend, one = _namespace()
        other = one if processes == 1 else Process(backend)
        made.append((backend, one))
        return one.lagging.stamp(["t"]), other.lagging.move_tag("t")

    for _ in every_order(play):
        backend, one = made[-1]
        found = backend.get(one.space.generation_name)
        one.at_once.observe(found)
        kept = one.space.tag_epochs.get("t")
        stored = backend.get(one.space.tag_name("t"))
        assert stored
        assert kept in (None, decode_epoch(stored.data))


@pytest.mark.parametrize("dies_after", [None, 0, 1, 2, 3, 4, 5])
def test_one_pattern_too_many_loses_none_of_the_others(dies_after: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcache_core.authority.MAX_BANS", 2)
    made: list[tuple[DictBackend, bytes]] = []

    def play() -> tuple[Body, Body]:
        backend, one = _namespace()
        assert one.space.generation is not None
        made.append((backend, one.space.generation.lineage))
        for pattern in ("a*", "b*"):
            drive(one.at_once.bump(cut=True, ban=pattern))
        return one.slowly.bump(cut=True, ban="c*"), Process(backend).slowly.bump(cut=False)

    def is_kept() -> bool:
        backend, lineage = made[-1]
        return not any(Process(backend).judges(plain, seq=0, lineage=lineage) for plain in ("a1", "b1"))

    if dies_after is None:
        for _ in every_order(play):
            assert is_kept()
            backend, lineage = made[-1]
            assert not Process(backend).judges("c1", seq=0, lineage=lineage)
        return
    dying, other = play()
    ended: list[Any] = []
    for _ in range(dies_after):
        if not ended:
            _ended(dying, ended)
    dying.close()
    drive_slowly(other)
    assert is_kept()


def drive_slowly(body: Body) -> None:
    """Take every step of a body that stops before each."""
    ended: list[Any] = []
    while not ended:
        _ended(body, ended)


def test_where_the_list_of_bans_is_lost_nothing_older_is_served() -> None:
    backend, one = _namespace()
    stamp = drive(one.at_once.stamp([]))
    drive(one.at_once.bump(cut=True, ban="a*"))
    assert backend.delete(one.space.bans_name)
    later = Process(backend)
    assert not later.judges("a1", seq=stamp.seq, lineage=stamp.lineage)
    assert not later.judges("b1", seq=stamp.seq, lineage=stamp.lineage)
    anew = drive(later.at_once.stamp([]))
    drive(later.at_once.bump(cut=True, ban="c*"))
    assert backend.delete(one.space.bans_name)
    anew = drive(Process(backend).at_once.stamp([]))  # whose first act finds out
    assert Process(backend).judges("b1", seq=anew.seq, lineage=anew.lineage)
