"""Replicate's SDK over the cache: one prediction per version and input, outputs that outlive the provider's copies."""

import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ModelError
from replicate.helpers import FileOutput
from upstream import Upstream

from agentcache_adapters import cached
from agentcache_core import Cache

VERSION = "owner/name:"


class Delivery(httpx.HTTPTransport, httpx.AsyncHTTPTransport):
    """Brings the provider's https addresses to the local server, over real HTTP."""

    def __init__(self, upstream: Upstream) -> None:
        self._here = httpx.URL(upstream.url)
        self._blocking, self._async = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()

    def _moved(self, request: httpx.Request) -> httpx.Request:
        url = request.url.copy_with(scheme="http", host=self._here.host, port=self._here.port)
        return httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._blocking.handle_request(self._moved(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._async.handle_async_request(self._moved(request))


@pytest.fixture
def cache(tiers: str | list[str]) -> Iterator[Cache]:
    with Cache(tiers) as fresh:
        yield fresh


@pytest.fixture
async def connect(upstream: Upstream) -> AsyncIterator[Callable[[str], Client]]:
    """Clients of the local provider, whose connections are closed at the end."""
    made: list[Delivery] = []

    def client_of(token: str) -> Client:
        made.append(Delivery(upstream))
        return Client(api_token=token, transport=made[-1])

    yield client_of
    for delivery in made:
        delivery._blocking.close()
        await delivery._async.aclose()


@pytest.fixture
def client(cache: Cache, connect: Callable[[str], Client]) -> Client:
    return cached(connect("r8_secret"), cache)


def predictions(upstream: Upstream) -> int:
    return sum(seen.path.endswith("/predictions") for seen in upstream.calls)


def test_a_prediction_is_made_once_per_version_and_input(client: Client, upstream: Upstream) -> None:
    first = client.run(VERSION + "v1", {"prompt": "a cat"})
    assert client.run(VERSION + "v1", input={"prompt": "a cat"}) == first == {"number": 1}
    client.run(VERSION + "v2", {"prompt": "a cat"})
    client.run(VERSION + "v1", {"prompt": "a dog"})
    client.run(VERSION + "v1", {"prompt": "a cat"}, use_file_output=False)
    client.run("owner/name", {"prompt": "a cat"})
    assert predictions(upstream) == 5


def test_output_files_are_stored_as_bytes_and_outlive_the_provider(client: Client, upstream: Upstream) -> None:
    first = client.run(VERSION + "draws", {"prompt": "a cat"})
    contents = [image.read() for image in first]
    assert contents == [b"bytes of /files/1-0.png 2", b"bytes of /files/1-1.png 3"] or len(set(contents)) == 2
    upstream.failures = [(404, {"detail": "gone"})] * 9
    second = client.run(VERSION + "draws", {"prompt": "a cat"})
    assert all(isinstance(image, FileOutput) for image in second)
    assert [image.read() for image in second] == contents
    assert [b"".join(image) for image in second] == contents
    assert [str(image) for image in second] == [str(image) for image in first]
    assert len(upstream.failures) == 9


def test_files_nested_in_an_output_are_stored_too(client: Client) -> None:
    first, second = (client.run("owner/name", {"prompt": "x"}) for _ in range(2))
    assert second["image"].read() == first["image"].read()
    assert second["seed"] == first["seed"]


def test_iterated_outputs_pass_as_they_come_and_are_stored_at_their_end(client: Client, upstream: Upstream) -> None:
    unfinished = client.run(VERSION + "talks", {"prompt": "hi"})
    next(unfinished)
    unfinished.close()
    first = client.run(VERSION + "talks", {"prompt": "hi"})
    assert "".join(map(str, first)) == "answer " + str(upstream.count - 1) + " to hi"
    made = predictions(upstream)
    assert made == 2
    assert "".join(map(str, client.run(VERSION + "talks", {"prompt": "hi"}))).endswith(" to hi")
    assert predictions(upstream) == made


def test_input_files_count_by_content(client: Client, upstream: Upstream, tmp_path: Path) -> None:
    one, two, other = tmp_path / "one.png", tmp_path / "two.png", tmp_path / "other.png"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    other.write_bytes(b"different")
    options: dict[str, Any] = {"file_encoding_strategy": "base64"}
    client.run(VERSION + "v1", {"image": one}, **options)
    client.run(VERSION + "v1", {"image": two}, **options)
    with one.open("rb") as opened:
        opened.read(2)
        client.run(VERSION + "v1", {"image": opened}, **options)
    assert predictions(upstream) == 1
    client.run(VERSION + "v1", {"image": other}, **options)
    client.run(VERSION + "v1", {"image": io.BytesIO(b"same"), "n": 1}, **options)
    assert predictions(upstream) == 3


@pytest.mark.parametrize("status", ["failed", "canceled", "processing"])
def test_predictions_that_did_not_succeed_are_not_stored(client: Client, upstream: Upstream, status: str) -> None:
    for _ in range(2):
        if status == "failed":
            with pytest.raises(ModelError):
                client.run(VERSION + "v1", {"status": status})
        else:
            client.run(VERSION + "v1", {"status": status})
    assert predictions(upstream) == 2


def test_each_account_has_its_own_answers(cache: Cache, connect: Callable[[str], Client], upstream: Upstream) -> None:
    for token in ("one", "two", "one"):
        cached(connect(token), cache).run(VERSION + "v1", {"prompt": "x"})
    assert predictions(upstream) == 2


async def test_async_runs_share_the_same_answers(client: Client, upstream: Upstream) -> None:
    first = await client.async_run(VERSION + "draws", {"prompt": "x"})
    contents = [await image.aread() for image in first]
    assert [image.read() for image in client.run(VERSION + "draws", {"prompt": "x"})] == contents
    talk = [str(piece) async for piece in await client.async_run(VERSION + "talks", {"prompt": "x"})]
    assert [str(piece) async for piece in await client.async_run(VERSION + "talks", {"prompt": "x"})] == talk
    assert predictions(upstream) == 2


def test_a_closed_cache_stops_nobody(connect: Callable[[str], Client]) -> None:
    cache = Cache()
    client = cached(connect("r8_secret"), cache)
    cache.close()
    assert client.run(VERSION + "v1", {"prompt": "x"}) == {"number": 1}
