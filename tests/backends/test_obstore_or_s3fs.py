"""Which client sends the requests, where it sends them and how it signs: both are told what every AWS program is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentcache_backends.filesystem.s3 import S3Backend, S3Settings
from agentcache_backends.filesystem.s3.surroundings import look_around
from agentcache_core.errors import BackendUnavailable, ConfigurationError
from agentcache_core.urls import open_backend

pytestmark = pytest.mark.s3
AWS = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_DEFAULT_REGION": "eu-central-1"}
CONFIG = """
[profile work]
region = eu-north-1
credential_process = echo '{"Version": 1, "AccessKeyId": "AKIDPROC", "SecretAccessKey": "word", "SessionToken": "t"}'
[profile elsewhere]
region = eu-north-1
endpoint_url = https://s3.example.org
[profile dual]
region = eu-north-1
use_dualstack_endpoint = true
[profile styled]
region = eu-north-1
s3 =
    addressing_style = path
[profile bare]
"""

Told = Callable[..., None]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    """Sets what the environment says of AWS: nothing but what is named, and a configuration file with profiles."""
    config = tmp_path / "config"
    config.write_text(CONFIG)

    def tell(**variables: str) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        fixed = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
        for name, value in (fixed | {"AWS_EC2_METADATA_DISABLED": "true"} | variables).items():
            monkeypatch.setenv(name, value)

    tell()
    return tell


def test_the_environment_gives_credentials_and_region(told: Told) -> None:
    told(**AWS, AWS_SESSION_TOKEN="env-token")
    around = look_around(S3Settings("bucket"))
    assert (around.odd, around.region) == ("", "eu-central-1")
    assert around.endpoint == "https://bucket.s3.eu-central-1.amazonaws.com"
    assert around.credentials is not None
    given = around.credentials()
    assert (given["access_key_id"], given["secret_access_key"], given["token"]) == (
        "AKIDENV",
        "env-secret",
        "env-token",
    )
    assert "secret" not in repr(around)


def test_a_profile_may_run_a_program_for_credentials(told: Told) -> None:
    told(AWS_PROFILE="work")
    around = look_around(S3Settings("bucket"))
    assert around.region == "eu-north-1"
    assert around.credentials is not None
    assert around.credentials()["access_key_id"] == "AKIDPROC"
    assert around.credentials()["token"] == "t"
    assert around.credentials()["expires_at"] is not None


def test_what_the_url_says_comes_first_and_needs_nobody_else(told: Told) -> None:
    told(**AWS, AWS_SESSION_TOKEN="env-token", AWS_ENDPOINT_URL_S3="http://elsewhere:1", AWS_PROFILE="missing")
    around = look_around(S3Settings("bucket", endpoint="http://here:9", key="KEY", secret="word"))
    assert (around.endpoint, around.region, around.odd) == ("http://here:9", "us-east-1", "")
    assert around.credentials is not None
    assert around.credentials() == {
        "access_key_id": "KEY",
        "secret_access_key": "word",
        "token": None,
        "expires_at": None,
    }


def test_an_endpoint_may_come_from_the_environment(told: Told) -> None:
    told(**AWS, AWS_ENDPOINT_URL="http://all:1")
    assert look_around(S3Settings("bucket")).endpoint == "http://all:1"
    told(**AWS, AWS_ENDPOINT_URL="http://all:1", AWS_ENDPOINT_URL_S3="http://s3:2")
    assert look_around(S3Settings("bucket")).endpoint == "http://s3:2"
    told(**AWS, AWS_ENDPOINT_URL="http://all:1", AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    assert "amazonaws.com" in look_around(S3Settings("bucket")).endpoint


@pytest.mark.parametrize(
    ("bucket", "endpoint", "style", "place"),
    [
        ("bucket", "", "auto", "https://bucket.s3.eu-central-1.amazonaws.com"),
        ("dotted.bucket", "", "auto", "https://s3.eu-central-1.amazonaws.com"),
        ("bucket", "", "path", "https://s3.eu-central-1.amazonaws.com"),
        ("bucket", "https://s3.example.org", "auto", "https://s3.example.org"),
        ("bucket", "https://s3.example.org", "virtual", "https://bucket.s3.example.org"),
    ],
)
def test_the_bucket_stands_in_the_host_name_or_in_the_path(
    told: Told, bucket: str, endpoint: str, style: Any, place: str
) -> None:
    told(**AWS)
    around = look_around(S3Settings(bucket, endpoint=endpoint, style=style))
    assert around.endpoint == place
    assert around.virtual == place.startswith("https://bucket.")


@pytest.mark.parametrize(
    ("variables", "settings", "why"),
    [
        ({**AWS, "AWS_DEFAULT_REGION": ""}, S3Settings("b"), "no region is known"),
        (AWS, S3Settings("b", region="cn-north-1"), "not on amazonaws.com"),
        ({"AWS_PROFILE": "elsewhere"}, S3Settings("b"), "names an endpoint"),
        ({"AWS_PROFILE": "dual"}, S3Settings("b"), "use_dualstack_endpoint"),
        ({"AWS_PROFILE": "styled"}, S3Settings("b"), "says s3"),
        ({"AWS_PROFILE": "missing"}, S3Settings("b"), "cannot be used"),
        ({"AWS_PROFILE": "bare"}, S3Settings("b", region="eu-central-1"), "no credentials"),
        ({**AWS, "AWS_CA_BUNDLE": "/no/such/file"}, S3Settings("b"), "cannot be used"),
        (AWS, S3Settings("b", prefix="/a//b"), "empty or dotted"),
        (AWS, S3Settings("b", prefix="/a/../b"), "empty or dotted"),
    ],
)
def test_s3fs_takes_over_where_obstore_would_go_astray(
    told: Told, variables: dict[str, str], settings: S3Settings, why: str
) -> None:
    told(**variables)
    assert why in look_around(settings).odd
    assert S3Backend(settings).connection.client == "s3fs"


def test_obstore_is_taken_where_it_can_be_and_never_where_it_is_not_wanted(told: Told) -> None:
    told(**AWS)
    assert S3Backend(S3Settings("b")).connection.client == "obstore"
    assert S3Backend(S3Settings("b", client="s3fs")).connection.client == "s3fs"


def test_asking_for_obstore_where_it_cannot_work_says_why_at_once(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    told(**AWS)
    with pytest.raises(ConfigurationError, match="empty or dotted parts"):
        open_backend("s3://b/a//b?client=obstore")
    with pytest.raises(ConfigurationError, match="one of auto, obstore, s3fs"):
        open_backend("s3://b?client=boto")
    with pytest.raises(ConfigurationError, match="begins with http"):
        open_backend("s3://b?endpoint=localhost:9000")
    with pytest.raises(ConfigurationError, match="both key and secret"):
        open_backend("s3://b?key=only")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "obstore" else find(name, *rest)
    )
    with pytest.raises(ConfigurationError, match=r"pip install 'agentcache\[obstore\]'"):
        open_backend("s3://b?client=obstore")
    assert S3Backend(S3Settings("b")).connection.client == "s3fs"


class _Store(BaseHTTPRequestHandler):
    """Plays a store of another region, or of few headers; notes what was asked."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str, str]]] = []
    region = False

    def _answer(self) -> None:
        cls = type(self)
        cls.asked.append((self.command, self.headers.get("User-Agent", ""), self.headers.get("If-Match", "")))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploads" in self.path:
            self._say(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif "list-type=2" in self.path:
            self._say(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        elif cls.region:
            self._say(301, b"<Error><Code>PermanentRedirect</Code></Error>")
        elif self.headers.get("If-Match"):
            self._say(501, b"<Error><Code>NotImplemented</Code></Error>")
        else:
            self._say(204 if self.command == "DELETE" else 200, b"")

    do_GET = do_PUT = do_DELETE = do_HEAD = _answer

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("ETag", '"an-etag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def store() -> Iterator[tuple[str, type[_Store]]]:
    kind = type("Store", (_Store,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kind
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_bucket_in_another_region_is_left_to_s3fs(store: tuple[str, type[_Store]]) -> None:
    endpoint, kind = store
    kind.region = True
    backend = S3Backend(S3Settings("b", endpoint=endpoint, key="KEY", secret="word", timeout=5.0))
    assert backend.connection.client == "obstore"
    with pytest.raises(BackendUnavailable):
        backend.get(b"k")
    assert backend.connection.client == "s3fs"
    assert [agent.partition("/")[0] for _, agent, _ in kind.asked[:2]] == ["object_store", "aiobotocore"]
    backend.close()


def test_a_store_that_refuses_conditional_deletes_is_asked_with_one_only_once(store: tuple[str, type[_Store]]) -> None:
    endpoint, kind = store
    backend = S3Backend(S3Settings("b", endpoint=endpoint, key="KEY", secret="word", client="s3fs", timeout=5.0))
    client, _ = backend.connection._slow()
    for _ in range(3):
        assert backend.connection.run(lambda _: client.remove("6b", only=b'"an-etag"'), by_s3fs=True) is True
    deletes = [condition for command, _, condition in kind.asked if command == "DELETE"]
    assert deletes == ['"an-etag"', "", "", ""]
    backend.close()


def test_an_account_that_may_not_list_uploads_sweeps_without(store: tuple[str, type[_Store]]) -> None:
    endpoint, kind = store
    backend = S3Backend(S3Settings("b", endpoint=endpoint, key="KEY", secret="word", timeout=5.0))
    assert backend.sweep() == 0
    assert [command for command, _, _ in kind.asked] == ["GET", "GET"]
    backend.close()


def test_a_conditional_delete_is_decided_by_the_store_itself(s3_url: str) -> None:
    backend: Any = open_backend(f"{s3_url}&timeout=20s")
    client, bucket = backend.connection._slow()
    stale = backend.put(b"k", b"old")
    backend.put(b"k", b"new")
    key = bucket._key(b"k")
    assert backend.connection.run(lambda _: client.remove(key, only=stale), by_s3fs=True) is False
    assert backend.get(b"k").data == b"new"
    assert backend.delete(b"k", if_version=backend.get(b"k").version) is True
    backend.close()


HANGING = """
import asyncio, socket, sys, threading, time
from agentcache_core.urls import open_backend

listening = socket.create_server(("127.0.0.1", 0), backlog=64)
url = f"s3://b?endpoint=http://127.0.0.1:{listening.getsockname()[1]}&key=K&secret=S&timeout=1s"
held = []

def hold():
    while True:
        held.append(listening.accept()[0])

threading.Thread(target=hold, daemon=True).start()
if sys.argv[1] == "blocking":
    backend = open_backend(url)
    for _ in range(4):
        threading.Thread(target=backend.get_many, args=([b"k"] * 8,), daemon=True).start()
    while len(held) < 8:
        time.sleep(0.01)
else:
    async def some():
        backend = open_backend(url, face="async")
        calls = [asyncio.ensure_future(backend.get(b"k")) for _ in range(8)]
        while len(held) < 8:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    asyncio.run(some())

class Slow:
    sleep = time.sleep
    def __del__(self):
        self.sleep(1.5)  # the interpreter is ending while the calls do

import builtins
builtins.slow = Slow()
"""


@pytest.mark.parametrize("face", ["blocking", "async"])
def test_a_program_ends_quietly_while_calls_are_under_way(face: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING, face], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
