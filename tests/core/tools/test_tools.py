"""Tool results with declared effects: what is answered from the cache, what always runs, what a write drops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import AsyncCache, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.errors import ConfigurationError
from agentcache_core.events import Event


@pytest.fixture(params=["memory", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'tools.db'}"
    with Cache(url, background=False) as cache:
        yield cache


class World:
    """Users by id, with a count of how often each tool really ran."""

    def __init__(self) -> None:
        self.users = {"ada": {"name": "Ada", "city": "London"}, "grace": {"name": "Grace", "city": "New York"}}
        self.ran: list[str] = []

    def get(self, user_id: str) -> dict[str, str]:
        self.ran.append(f"get {user_id}")
        return dict(self.users[user_id])

    def update(self, user_id: str, **changes: str) -> dict[str, str]:
        self.ran.append(f"update {user_id}")
        self.users[user_id].update(changes)
        return dict(self.users[user_id])


def user_tools(cache: Cache, world: World, **options: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    tools = cache.tools(**options)
    read = tools.read(ttl="10m", reads=lambda a: [f"user:{a['user_id']}"], name="get")(world.get)
    write = tools.write(writes=lambda a, result: [f"user:{a['user_id']}"], name="update")(world.update)
    return read, write


def test_a_read_runs_once_for_equal_arguments(cache: Cache) -> None:
    world = World()
    get, _ = user_tools(cache, world)
    assert get("ada") == get(user_id="ada") == {"name": "Ada", "city": "London"}
    assert get("grace")["name"] == "Grace"
    assert world.ran == ["get ada", "get grace"]


def test_a_caller_may_change_what_it_was_given(cache: Cache) -> None:
    get, _ = user_tools(cache, World())
    get("ada")["city"] = "elsewhere"
    assert get("ada")["city"] == "London"


def test_a_write_always_runs_and_drops_what_was_read_of_its_resources_only(cache: Cache) -> None:
    world = World()
    get, update = user_tools(cache, world)
    get("ada"), get("grace")
    update("ada", city="Turin")
    update("ada", city="Turin")
    assert get("ada")["city"] == "Turin"
    assert get("grace")["city"] == "New York"
    assert world.ran == ["get ada", "get grace", "update ada", "update ada", "get ada"]


def test_a_write_that_raises_has_happened(cache: Cache) -> None:
    world = World()
    tools = cache.tools()
    get = tools.read(reads=lambda a: [f"user:{a['user_id']}"])(world.get)

    @tools.write(writes=lambda a, result: [f"user:{a['user_id']}"])
    def half_done(user_id: str) -> None:
        world.users[user_id]["city"] = "Turin"
        raise OSError("the line broke")

    get("ada")
    with pytest.raises(OSError, match="the line broke"):
        half_done("ada")
    assert get("ada")["city"] == "Turin"


def test_a_write_without_named_resources_drops_every_read(cache: Cache) -> None:
    world = World()
    tools = cache.tools()
    get = tools.read(reads=lambda a: [f"user:{a['user_id']}"])(world.get)
    twice = tools.pure(lambda n: world.ran.append("twice") or n * 2)

    @tools.write
    def migrate() -> None:
        world.users["ada"]["city"] = "Turin"

    get("ada"), twice(2)
    migrate()
    assert get("ada")["city"] == "Turin"
    assert twice(2) == 4
    assert world.ran == ["get ada", "twice", "get ada"]


def test_any_write_drops_a_read_that_names_no_resources(cache: Cache) -> None:
    world = World()
    tools = cache.tools()
    everyone = tools.read()(lambda: sorted(user["city"] for user in world.users.values()))
    update = tools.write(writes=lambda a, result: [f"user:{a['user_id']}"])(world.update)
    assert everyone() == ["London", "New York"]
    update("ada", city="Turin")
    assert everyone() == ["New York", "Turin"]


def test_resources_that_only_the_result_names_are_dropped_too(cache: Cache) -> None:
    owners = {"lamp": "ada"}
    tools = cache.tools()
    owned = tools.read(reads=lambda a: [f"user:{a['user_id']}"])(
        lambda user_id: sorted(thing for thing, owner in owners.items() if owner == user_id)
    )

    @tools.write(writes=lambda a, result: [f"user:{result['was']}", f"user:{a['to']}"])
    def give(thing: str, to: str) -> dict[str, str]:
        was, owners[thing] = owners[thing], to
        return {"was": was}

    assert (owned("ada"), owned("grace")) == (["lamp"], [])
    give("lamp", "grace")
    assert (owned("ada"), owned("grace")) == ([], ["lamp"])


def test_a_faulty_declaration_of_a_write_drops_everything_and_keeps_the_result(cache: Cache) -> None:
    world = World()
    get, _ = user_tools(cache, world)
    tools = cache.tools()
    update = tools.write(writes=lambda a, result: [a["no such argument"]])(world.update)
    get("ada")
    assert update("ada", city="Turin")["city"] == "Turin"
    assert get("ada")["city"] == "Turin"


def test_a_faulty_declaration_of_a_read_runs_the_tool_uncached_and_says_so(cache: Cache) -> None:
    told: list[Event] = []
    cache.events.subscribe(told.append)
    calls: list[str] = []
    look = cache.tools().read(reads=lambda a: [a["no such argument"]])(lambda x: calls.append(x) or x)
    assert (look("a"), look("a")) == ("a", "a")
    assert calls == ["a", "a"]
    assert {event.reason for event in told if event.name == "bypass"} == {"declaration_failed: KeyError"}


def test_a_ttl_ends_a_read() -> None:
    clock, world = ManualClock(), World()
    with Cache(clock=clock, background=False) as cache:
        get, _ = user_tools(cache, world)
        get("ada")
        clock.advance(599)
        get("ada")
        clock.advance(2)
        get("ada")
    assert world.ran == ["get ada", "get ada"]


def test_undeclared_and_never_tools_always_run(cache: Cache) -> None:
    ran: list[str] = []
    tools = cache.tools(effects={"tools": {"known": {"effect": "never"}}})
    for name in ("known", "known", "unknown", "unknown"):
        assert tools.call(name, {}, lambda name=name: ran.append(name) or name) == name
    never = tools.never(lambda: ran.append("never"))
    never(), never()
    assert ran == ["known", "known", "unknown", "unknown", "never", "never"]


def test_an_actor_never_sees_what_another_was_given(cache: Cache) -> None:
    who = ["ada"]
    seen: list[str] = []
    tools = cache.tools(actor=lambda: who[0])
    inbox = tools.read(reads=lambda a: ["inbox"])(lambda: seen.append(who[0]) or f"mail of {who[0]}")
    assert (inbox(), inbox()) == ("mail of ada", "mail of ada")
    who[0] = "grace"
    assert inbox() == "mail of grace"
    with tools.session("run", actor="edsger"):
        who[0] = "edsger"
        assert inbox() == "mail of edsger"
    assert seen == ["ada", "grace", "edsger"]


def test_one_actors_write_drops_what_another_read(cache: Cache) -> None:
    world, who = World(), ["ada"]
    get, update = user_tools(cache, world, actor=lambda: who[0])
    get("grace")
    who[0] = "grace"
    update("grace", city="Boston")
    who[0] = "ada"
    assert get("grace")["city"] == "Boston"


def test_a_failing_actor_means_no_cache(cache: Cache) -> None:
    world = World()
    get, _ = user_tools(cache, world, actor=lambda: {}["nobody is signed in"])
    get("ada"), get("ada")
    assert world.ran == ["get ada", "get ada"]


def test_a_secret_argument_counts_and_is_stored_nowhere(tmp_path: Path) -> None:
    told: list[Event] = []
    calls: list[str] = []
    with Cache(f"sqlite:///{tmp_path / 'tools.db'}", background=False) as cache:
        cache.events.subscribe(told.append)
        look = cache.tools().read(secret=("token",), reads=lambda a: [f"of:{sorted(a)}"])(
            lambda user, token: calls.append(token) or f"inbox of {user}"
        )
        for token in ("hunter2-hunter2", "hunter2-hunter2", "correct-horse"):
            look("ada", token)
    assert calls == ["hunter2-hunter2", "correct-horse"]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"inbox of ada" in stored
    assert b"hunter2" not in stored
    assert "hunter2" not in repr(told)


def test_errors_that_are_answers_are_stored_and_raised_again(cache: Cache) -> None:
    class NotFound(LookupError):
        pass

    asked: list[str] = []
    tools = cache.tools()

    @tools.read(reads=lambda a: ["users"], cache_errors=(NotFound, ZeroDivisionError))
    def find(name: str) -> str:
        asked.append(name)
        if name == "nobody":
            raise NotFound(name, 404)
        if name == "broken":
            raise OSError("no line")
        return name.title()

    for _ in range(2):
        with pytest.raises(NotFound, match="nobody") as caught:
            find("nobody")
        assert caught.value.args == ("nobody", 404)
        with pytest.raises(OSError, match="no line"):
            find("broken")
        assert find("ada") == "Ada"
    assert asked == ["nobody", "broken", "ada", "broken"]
    tools.write(writes=lambda a, result: ["users"])(lambda: None)()
    with pytest.raises(NotFound):
        find("nobody")
    assert asked[-1] == "nobody"


async def test_async_tools_behave_alike() -> None:
    world = World()
    async with AsyncCache(background=False) as cache:
        tools = cache.tools()

        @tools.read(reads=lambda a: [f"user:{a['user_id']}"])
        async def get(user_id: str) -> dict[str, str]:
            await asyncio.sleep(0)
            return world.get(user_id)

        @tools.write(writes=lambda a, result: [f"user:{a['user_id']}"])
        async def update(user_id: str, **changes: str) -> dict[str, str]:
            return world.update(user_id, **changes)

        answers = await asyncio.gather(*(get("ada") for _ in range(5)))
        assert answers == [{"name": "Ada", "city": "London"}] * 5
        await update("ada", city="Turin")
        assert (await get("ada"))["city"] == "Turin"
        assert await tools.call("unknown", {"a": 1}, lambda arguments: arguments["a"]) == 1
    assert world.ran == ["get ada", "update ada", "get ada"]


def test_methods_of_different_objects_do_not_share_and_equal_identities_do(cache: Cache) -> None:
    tools = cache.tools()

    class Shelf:
        def __init__(self, books: list[str], identity: str | None = None) -> None:
            self.books = books
            if identity is not None:
                self.cache_identity = identity

        @tools.read()
        def count(self) -> int:
            return len(self.books)

        @tools.pure
        async def spine(self, n: int) -> str:
            return self.books[n]

    one, other = Shelf(["a"]), Shelf(["a", "b"])
    assert (one.count(), other.count(), one.count()) == (1, 2, 1)
    one.books.append("c")
    assert one.count() == 1
    assert Shelf(["x", "y", "z"], "north").count() == 3
    assert Shelf([], "north").count() == 3
    assert asyncio.run(other.spine(1)) == "b"


def test_a_tool_known_by_name_and_json_is_called_with_its_arguments_or_with_nothing(cache: Cache) -> None:
    tools = cache.tools(effects={"tools": {"add": {"effect": "pure"}}})
    calls: list[Any] = []
    assert tools.call("add", '{"a": 1, "b": 2}', lambda a: calls.append(a) or a["a"] + a["b"]) == 3
    assert tools.call("add", {"b": 2, "a": 1}, lambda: calls.append("again")) == 3
    assert calls == [{"a": 1, "b": 2}]
    assert tools.call("add", "{not json", lambda text: f"ran {text}") == "ran {not json"
    assert tools.call("add", "[1]", lambda: "ran again") == "ran again"


def test_unkeyable_arguments_run_the_tool_uncached(cache: Cache) -> None:
    calls: list[int] = []
    look = cache.tools().pure(lambda thing: calls.append(1) or "seen")
    assert (look(object()), look(object())) == ("seen", "seen")
    assert calls == [1, 1]


@pytest.mark.parametrize("wrong", ["generator", "string secret", "no parentheses", "scope", "not a cache"])
def test_a_wrong_use_says_how_to_mend_it(cache: Cache, wrong: str) -> None:
    from agentcache_core.tools import Tools

    tools = cache.tools()

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match=r"generator|secret=\(|parentheses|scope must be|belong to a Cache"):
        {
            "generator": lambda: tools.read()(stream),
            "string secret": lambda: tools.read(secret="token"),
            "no parentheses": lambda: tools.read(stream),
            "scope": lambda: tools.session("run", scope="world"),
            "not a cache": lambda: Tools({}),
        }[wrong]()


def test_a_read_during_a_write_runs_and_is_not_stored(cache: Cache) -> None:
    world = World()
    get, _ = user_tools(cache, world)
    tools = cache.tools()
    during: list[dict[str, str]] = []

    @tools.write(writes=lambda a, result: [f"user:{a['user_id']}"])
    def slow_update(user_id: str) -> None:
        during.extend([get(user_id), get(user_id), get("grace"), get("grace")])
        world.users[user_id]["city"] = "Turin"

    get("ada")
    slow_update("ada")
    assert [seen["city"] for seen in during] == ["London", "London", "New York", "New York"]
    assert world.ran == ["get ada", "get ada", "get ada", "get grace"]
    assert get("ada")["city"] == "Turin"


def test_a_read_in_another_process_heeds_the_write_mark(tmp_path: Path) -> None:
    world = World()
    url = f"sqlite:///{tmp_path / 'tools.db'}"
    with Cache(url, background=False) as here, Cache(url, background=False) as elsewhere:
        get_elsewhere, _ = user_tools(elsewhere, world)
        from agentcache_core.tools import execution

        def update_and_look(user_id: str, **changes: str) -> None:
            with execution._busy.lock:  # what another process knows of the writes in this one: nothing
                known, execution._busy.marks = execution._busy.marks, type(execution._busy.marks)()
            get_elsewhere(user_id), get_elsewhere(user_id)
            execution._busy.marks = known
            world.users[user_id].update(changes)

        slow = here.tools().write(writes=lambda a, result: [f"user:{a['user_id']}"])(update_and_look)
        get_elsewhere("ada")
        slow("ada", city="Turin")
        assert get_elsewhere("ada")["city"] == "Turin"
        get_elsewhere("ada")
    assert world.ran == ["get ada"] * 4


def test_a_writer_that_died_leaves_a_mark_that_expires_and_no_answer_from_before(tmp_path: Path) -> None:
    clock, world = ManualClock(start=time.time()), World()
    with Cache(f"sqlite:///{tmp_path / 'tools.db'}", background=False, clock=clock, deadline="30s") as cache:
        get, _ = user_tools(cache, world)
        get("ada")
        from agentcache_core.tools.execution import EVERYTHING, _marks
        from agentcache_core.tools.ports import MARK_SECONDS, BlockingPort

        port = BlockingPort(cache)
        cache.invalidate(tag="resource:user:ada")
        cache.namespace("agentcache.tools").set_many(
            [(m, "dead") for m in _marks(port, [EVERYTHING])], ttl=MARK_SECONDS
        )
        world.users["ada"]["city"] = "Turin"
        assert (get("ada")["city"], get("ada")["city"]) == ("Turin", "Turin")
        clock.advance(MARK_SECONDS + 1)
        assert (get("ada")["city"], get("ada")["city"]) == ("Turin", "Turin")
    assert world.ran == ["get ada"] * 4


def test_a_read_after_a_write_never_joins_a_read_from_before_it() -> None:
    world = World()
    reading, may_finish = threading.Event(), threading.Event()
    with Cache(background=False) as cache:
        tools = cache.tools()
        slow = [True]

        def get(user_id: str) -> str:
            city = world.users[user_id]["city"]
            if slow.pop() if slow else False:
                reading.set()
                assert may_finish.wait(10)
            return city

        look = tools.read(reads=lambda a: [f"user:{a['user_id']}"])(get)
        update = tools.write(writes=lambda a, result: [f"user:{a['user_id']}"])(world.update)
        early: list[str] = []
        thread = threading.Thread(target=lambda: early.append(look("ada")))
        thread.start()
        assert reading.wait(10)
        update("ada", city="Turin")
        assert look("ada") == "Turin"
        may_finish.set()
        thread.join()
        assert early == ["London"]
        assert look("ada") == "Turin"


def test_near_copies_are_confirmed_before_a_coherent_read_is_served(tmp_path: Path) -> None:
    world = World()
    tiers = ["memory://", f"sqlite:///{tmp_path / 'shared.db'}"]
    with Cache(tiers, background=False, max_staleness="1h") as here, Cache(tiers, background=False) as elsewhere:
        get, _ = user_tools(here, world)
        _, update = user_tools(elsewhere, world)
        get("ada"), get("ada")
        update("ada", city="Turin")
        assert get("ada")["city"] == "Turin"


def test_an_invalidation_from_outside_drops_reads_by_their_resource(cache: Cache) -> None:
    world = World()
    get, _ = user_tools(cache, world)
    get("ada")
    world.users["ada"]["city"] = "Turin"
    cache.invalidate(tag="resource:user:ada")
    assert get("ada")["city"] == "Turin"


def test_a_declared_tool_keeps_its_name_and_signature(cache: Cache) -> None:
    @cache.tools().read(ttl="1m")
    def get_user(user_id: str, *, full: bool = False) -> dict[str, str]:
        """Look a user up."""
        return {}

    assert get_user.__name__ == "get_user"
    assert get_user.__doc__ == "Look a user up."
    with pytest.raises(TypeError, match="user_id"):
        get_user()
