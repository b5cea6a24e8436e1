"""Both client libraries, both faces, against a real server: what caller and upstream see, what is stored."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upstream import Upstream
from wire_answers import Answer

from agentcache_adapters.http import CacheRules, Rule
from agentcache_adapters.http import httpx as shim1
from agentcache_adapters.http import httpx2 as shim2
from agentcache_core import Cache

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
LIBRARIES = [pytest.param((httpx, shim1), id="httpx"), pytest.param((httpx2, shim2), id="httpx2")]


class Blocking:
    """One library's blocking client behind the same few verbs as its async one."""

    def __init__(self, library: Any, shim: Any, cache: Cache, **options: Any) -> None:
        self.client = library.Client(transport=shim.CacheTransport(cache, **options), timeout=20)

    async def post(self, url: str, body: object, **headers: str) -> Any:
        return await asyncio.to_thread(self.client.post, url, json=body, headers=headers)

    async def get(self, url: str) -> Any:
        return await asyncio.to_thread(self.client.get, url)

    async def read_stream(self, url: str, body: object, stop_after: int | None = None) -> bytes:
        def run() -> bytes:
            got = b""
            with self.client.stream("POST", url, json=body) as response:
                for index, chunk in enumerate(response.iter_raw()):
                    got += chunk
                    if stop_after is not None and index + 1 >= stop_after:
                        break
            return got

        return await asyncio.to_thread(run)

    async def close(self) -> None:
        self.client.close()


class Asynchronous:
    def __init__(self, library: Any, shim: Any, cache: Cache, **options: Any) -> None:
        self.client = library.AsyncClient(transport=shim.AsyncCacheTransport(cache, **options), timeout=20)

    async def post(self, url: str, body: object, **headers: str) -> Any:
        return await self.client.post(url, json=body, headers=headers)

    async def get(self, url: str) -> Any:
        return await self.client.get(url)

    async def read_stream(self, url: str, body: object, stop_after: int | None = None) -> bytes:
        got, index = b"", 0
        async with self.client.stream("POST", url, json=body) as response:
            async for chunk in response.aiter_raw():
                got += chunk
                index += 1
                if stop_after is not None and index >= stop_after:
                    break
        return got

    async def close(self) -> None:
        await self.client.aclose()


Face = Blocking | Asynchronous


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture(params=[Blocking, Asynchronous])
async def make(request: pytest.FixtureRequest, library: Any, cache: Cache) -> AsyncIterator[Callable[..., Face]]:
    made: list[Face] = []

    def build(**options: Any) -> Face:
        made.append(request.param(*library, cache, **options))
        return made[-1]

    yield build
    for client in made:
        await client.close()


@pytest.fixture
def client(make: Callable[..., Face]) -> Face:
    return make()


async def eventually(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def test_the_second_call_is_answered_without_upstream(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"
    first, second = await client.post(url, CHAT), await client.post(url, CHAT)
    assert upstream.count == 1
    assert first.content == second.content
    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.headers["x-agentcache"], second.headers["x-agentcache"]) == ("miss", "hit; how=exact")
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert second.json()["choices"][0]["message"]["content"] == "answer 1 to hi"


async def test_hit_headers_can_be_hidden(make: Callable[..., Face], upstream: Upstream) -> None:
    client = make(annotate=False)
    for _ in range(2):
        response = await client.post(upstream.url + "/v1/chat/completions", CHAT)
        assert not [name for name in response.headers if name.startswith("x-agentcache")]
    assert upstream.count == 1


async def test_another_account_is_never_answered_from_this_one(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"
    for key in ("sk-a", "sk-b", "sk-a"):
        await client.post(url, CHAT, authorization=f"Bearer {key}")
    assert upstream.count == 2


async def test_cookies_of_the_provider_do_not_come_back_from_the_cache(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"
    assert "set-cookie" in (await client.post(url, CHAT)).headers
    client.client.cookies.clear()
    assert "set-cookie" not in (await client.post(url, CHAT)).headers


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_errors_pass_as_they_are_and_are_not_stored(client: Face, upstream: Upstream, status: int) -> None:
    url = upstream.url + "/v1/chat/completions"
    upstream.failures = [(status, {"error": {"message": "no"}})]
    failed = await client.post(url, CHAT)
    assert (failed.status_code, failed.json()) == (status, {"error": {"message": "no"}})
    assert (await client.post(url, CHAT)).status_code == 200
    assert (await client.post(url, CHAT)).headers["x-agentcache"].startswith("hit")
    assert upstream.count == 2


async def test_a_truncated_answer_is_not_stored(client: Face, upstream: Upstream) -> None:
    cut = {"choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "x"}}]}
    upstream.script = lambda _number, _seen: Answer(cut)
    for _ in range(2):
        assert (await client.post(upstream.url + "/v1/chat/completions", CHAT)).json() == cut
    assert upstream.count == 2


async def test_server_side_state_bypasses_with_a_reason(client: Face, upstream: Upstream) -> None:
    body = {"model": "gpt-5", "input": "hi", "previous_response_id": "resp_1"}
    for _ in range(2):
        response = await client.post(upstream.url + "/v1/responses", body)
        assert response.headers["x-agentcache"] == "bypass"
        assert "previous_response_id" in response.headers["x-agentcache-reason"]
    assert upstream.count == 2


async def test_uncovered_calls_pass_untouched(client: Face, upstream: Upstream) -> None:
    for _ in range(2):
        response = await client.get(upstream.url + "/v1/models")
        assert not [name for name in response.headers if name.startswith("x-agentcache")]
    assert upstream.count == 2


async def test_rules_cover_anything_else(make: Callable[..., Face], upstream: Upstream) -> None:
    client = make(rules=CacheRules((Rule(hosts=("127.0.0.1",), paths=("/v1/models",)),)))
    first, second = [await client.get(upstream.url + "/v1/models") for _ in range(2)]
    await client.get(upstream.url + "/v1/files")
    assert first.content == second.content
    assert [seen.path for seen in upstream.calls] == ["/v1/models", "/v1/files"]


async def test_our_own_headers_steer_and_never_travel_upstream(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"

    async def ask(control: str) -> Any:
        return await client.post(url, CHAT, **{"x-agentcache": control, "x-agentcache-tags": "a"})

    missing = await ask("only-if-cached")
    assert (missing.status_code, missing.headers["x-should-retry"]) == (504, "false")
    assert (await ask("no-store")).headers["x-agentcache"] == "miss"
    stored = (await ask("max-age=60")).content
    assert (await ask("only-if-cached")).content == stored
    assert (await ask("no-cache")).content != stored
    refreshed = (await ask("refresh")).content
    assert (await ask("")).content == refreshed
    assert (await ask("sample=1")).content != refreshed
    assert (await ask("sample=1")).headers["x-agentcache"].startswith("hit")
    assert upstream.count == 5
    assert not [name for seen in upstream.calls for name in seen.headers if name.startswith("x-agentcache")]


STREAM = CHAT | {"stream": True}


async def test_a_stream_is_replayed_event_for_event(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"
    first, second = await client.read_stream(url, STREAM), await client.read_stream(url, STREAM)
    assert first == second
    assert first.endswith(b"data: [DONE]\n\n")
    assert upstream.count == 1
    assert await client.read_stream(url, CHAT) != first
    assert upstream.count == 2


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(every=st.integers(min_value=1, max_value=60))
def test_the_cuts_of_the_wire_do_not_show_in_a_replay(upstream: Upstream, every: int) -> None:
    with Cache() as cache, httpx2.Client(transport=shim2.CacheTransport(cache)) as http:
        upstream.cut_every, upstream.calls[:] = every, []
        got = [http.post(upstream.url + "/v1/chat/completions", json=STREAM) for _ in range(2)]
        assert got[0].content == got[1].content
        assert upstream.count == 1
        with http.stream("POST", upstream.url + "/v1/chat/completions", json=STREAM) as replay:
            pieces = list(replay.iter_raw())
        assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") for piece in pieces)


async def test_an_aborted_stream_stores_nothing_and_hangs_up(client: Face, upstream: Upstream) -> None:
    url = upstream.url + "/v1/chat/completions"
    # Far more than socket buffers hold, so that the server notices.
    filler = [b'data: {"choices": []}\n\n' * 4000] * 400
    upstream.script = lambda number, _seen: Answer(events=filler) if number == 1 else None
    await client.read_stream(url, STREAM, stop_after=2)
    await asyncio.to_thread(upstream.hung_up.wait, 20)
    assert upstream.hung_up.is_set()
    await client.read_stream(url, STREAM)
    assert upstream.count == 2


async def test_a_broken_stream_raises_as_without_a_cache_and_stores_nothing(
    client: Face, upstream: Upstream, library: Any
) -> None:
    url = upstream.url + "/v1/chat/completions"
    upstream.break_after = 2
    with pytest.raises(library[0].RemoteProtocolError):
        await client.read_stream(url, STREAM)
    upstream.break_after = None
    assert (await client.read_stream(url, STREAM)).endswith(b"[DONE]\n\n")
    assert upstream.count == 2


async def test_nothing_is_buffered_from_the_reader(client: Face, upstream: Upstream) -> None:
    """The server sends event n + 1 only after the reader has event n: any buffering would stop the stream for good."""
    received = threading.Semaphore(1)
    upstream.before_event = lambda _index: received.acquire(timeout=20)
    url, seen = upstream.url + "/v1/chat/completions", []
    if isinstance(client, Blocking):

        def run() -> None:
            with client.client.stream("POST", url, json=STREAM) as response:
                for chunk in response.iter_raw():
                    seen.append(chunk)
                    received.release()

        await asyncio.to_thread(run)
    else:
        async with client.client.stream("POST", url, json=STREAM) as response:
            async for chunk in response.aiter_raw():
                seen.append(chunk)
                received.release()
    assert b"".join(seen).endswith(b"[DONE]\n\n")


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_concurrent_identical_calls_make_one_upstream_call(client: Face, upstream: Upstream, body: Any) -> None:
    gate = threading.Event()
    upstream.before_event = lambda _index: gate.wait(20)
    url = upstream.url + "/v1/chat/completions"
    tasks = [asyncio.create_task(client.read_stream(url, body)) for _ in range(12)]
    await eventually(lambda: upstream.count == 1)
    gate.set()
    answers = await asyncio.gather(*tasks)
    assert len(set(answers)) == 1
    assert upstream.count == 1


async def test_followers_see_the_live_stream_before_it_ends(client: Face, upstream: Upstream) -> None:
    """The second reader gets the first event while the server still holds back the rest."""
    gate, url = threading.Event(), upstream.url + "/v1/chat/completions"
    upstream.before_event = lambda index: index < 1 or gate.wait(20)
    leader = asyncio.create_task(client.read_stream(url, STREAM))
    await eventually(lambda: upstream.count == 1)
    early = await client.read_stream(url, STREAM, stop_after=1)
    assert early.startswith(b"data: ")
    gate.set()
    assert (await leader).startswith(early)
    assert upstream.count == 1
    assert await client.read_stream(url, STREAM) == await leader
    assert upstream.count == 1


async def test_followers_go_on_when_the_leader_leaves(client: Face, upstream: Upstream) -> None:
    gate, url = threading.Event(), upstream.url + "/v1/chat/completions"
    upstream.before_event = lambda index: index < 1 or gate.wait(20)
    leader = asyncio.create_task(client.read_stream(url, STREAM, stop_after=1))
    await eventually(lambda: upstream.count == 1)
    follower = asyncio.create_task(client.read_stream(url, STREAM))
    await leader
    await asyncio.sleep(0.05)
    gate.set()
    assert (await follower).endswith(b"[DONE]\n\n")
    # The follower either joined in time or asked itself; whatever it got is whole and stored.
    assert await client.read_stream(url, STREAM) == await follower


async def test_a_failure_upstream_reaches_every_caller_and_the_next_call_starts_anew(
    client: Face, upstream: Upstream, library: Any
) -> None:
    url = upstream.url + "/v1/chat/completions"
    gate = threading.Event()

    def script(number: int, _seen: object) -> Answer | None:
        if number == 1:
            gate.wait(20)
            return Answer({"error": {"message": "overloaded"}}, status=503)
        return None

    upstream.script = script
    tasks = [asyncio.create_task(client.post(url, CHAT)) for _ in range(5)]
    await eventually(lambda: upstream.count == 1)
    await asyncio.sleep(0.05)
    gate.set()
    statuses = [(await task).status_code for task in tasks]
    assert statuses.count(503) >= 1
    assert (await client.post(url, CHAT)).status_code == 200


async def test_a_refused_connection_raises_the_librarys_own_error(client: Face, library: Any) -> None:
    with pytest.raises(library[0].ConnectError):
        await client.post("http://127.0.0.1:9/v1/chat/completions", CHAT)


async def test_a_cancelled_leader_takes_no_follower_down(library: Any, cache: Cache, upstream: Upstream) -> None:
    gate, url = threading.Event(), upstream.url + "/v1/chat/completions"
    upstream.before_answer = lambda _number: gate.wait(20)
    client = Asynchronous(*library, cache)
    leader = asyncio.create_task(client.post(url, CHAT))
    await eventually(lambda: upstream.count == 1)
    followers = [asyncio.create_task(client.post(url, CHAT)) for _ in range(3)]
    await asyncio.sleep(0.05)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    gate.set()
    assert {(await follower).content for follower in followers} == {(await client.post(url, CHAT)).content}
    assert upstream.count == 1
    await client.close()


async def test_a_cancelled_only_caller_stops_upstream(library: Any, cache: Cache, upstream: Upstream) -> None:
    gate, url = threading.Event(), upstream.url + "/v1/chat/completions"
    upstream.before_answer = lambda number: number > 1 or gate.wait(20)
    client = Asynchronous(*library, cache)
    only = asyncio.create_task(client.post(url, CHAT))
    await eventually(lambda: upstream.count == 1)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    gate.set()
    assert (await client.post(url, CHAT)).headers["x-agentcache"] == "miss"
    await client.close()


@pytest.mark.parametrize("verb", ["lookup", "set"])
async def test_trouble_with_the_cache_never_reaches_the_caller(
    library: Any, upstream: Upstream, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("the cache is on fire")

    with Cache() as cache:
        monkeypatch.setattr(type(cache), verb, broken)
        client = Blocking(*library, cache)
        for _ in range(2):
            assert (await client.post(upstream.url + "/v1/chat/completions", CHAT)).status_code == 200
        assert upstream.count == 2
        await client.close()


async def test_recorded_pace_waits_as_upstream_did(library: Any, upstream: Upstream) -> None:
    slept: list[float] = []
    ticks = iter(range(10_000))
    with Cache() as cache:
        client = Blocking(*library, cache, pace="recorded", sleep=slept.append, now=lambda: float(next(ticks)))
        url = upstream.url + "/v1/chat/completions"
        first = await client.read_stream(url, STREAM)
        assert slept == []
        assert await client.read_stream(url, STREAM) == first
        await client.close()
    assert len(slept) == first.count(b"\n\n")
    assert all(delay >= 1 for delay in slept)


async def test_what_is_stored_holds_no_secret(client: Face, cache: Cache, upstream: Upstream) -> None:
    stored: list[str] = []
    url = upstream.url + "/v1/chat/completions"
    await client.post(url, CHAT, authorization="Bearer sk-topsecret", cookie="id=topsecret")
    hit = await client.post(url, CHAT, authorization="Bearer sk-topsecret", cookie="id=topsecret")
    stored.append(json.dumps(dict(hit.headers)) + hit.text)
    assert "topsecret" not in stored[0]
    assert "secret-cookie" not in stored[0]


async def test_threads_and_tasks_share_answers_through_one_cache(
    library: Any, cache: Cache, upstream: Upstream
) -> None:
    url = upstream.url + "/v1/chat/completions"
    one, two = Blocking(*library, cache), Asynchronous(*library, cache)
    assert (await one.post(url, CHAT)).content == (await two.post(url, CHAT)).content
    assert await two.read_stream(url, STREAM) == await one.read_stream(url, STREAM)
    assert upstream.count == 2
    await one.close()
    await two.close()


async def test_a_follower_waits_no_longer_than_its_own_timeout_for_a_slow_leader(
    client: Face, upstream: Upstream, library: Any
) -> None:
    """The first call never gets its answer; the second has little patience and asks for itself."""
    gate, url = threading.Event(), upstream.url + "/v1/chat/completions"
    upstream.before_answer = lambda number: number > 1 or gate.wait(20)
    leader = asyncio.create_task(client.post(url, CHAT))
    await eventually(lambda: upstream.count == 1)
    hurried = library[0].Timeout(20, read=0.2)
    if isinstance(client, Blocking):
        answer = await asyncio.to_thread(client.client.post, url, json=CHAT, timeout=hurried)
    else:
        answer = await client.client.post(url, json=CHAT, timeout=hurried)
    assert answer.json()["choices"][0]["message"]["content"] == "answer 2 to hi"
    assert not leader.done()
    gate.set()
    assert (await leader).status_code == 200
