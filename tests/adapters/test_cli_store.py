"""`agentcache sweep`, `verify`, `tiering plan`, `purge`, `keys` and `inspect`, as typed at a prompt."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app
from agentcache_core import MISSING, Cache, Tier
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.policy.placement import Rules
from agentcache_core.urls import open_backend

LARGE = {"text": "a large answer, " * 2000}
RING = Keyring({1: b"k" * 32})


def run(*arguments: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Any:
    settings = {"COLUMNS": "1000", **(env or {})}
    return CliRunner().invoke(app, list(arguments), input=stdin, env=settings, catch_exceptions=False)


@pytest.fixture
def url(tmp_path: Path) -> str:
    place = f"sqlite:///{tmp_path}/cache.db"
    with Cache(place, deadline="30s") as cache:
        cache.set("user:1", LARGE, tags=["users"], ttl="1h")
        cache.set("user:2", {"n": 2, "big": 2**70, "\x1b[31m": (1, 2)})
        cache.set({"model": "m", "messages": []}, "an answer")
        cache.set("gone", {"text": "gone " * 10_000})
        cache.delete("gone")
    return place


def test_keys_are_listed_in_order_and_cannot_steer_the_terminal(url: str) -> None:
    with Cache(url) as cache:
        cache.set("\x1b[2Jsly", 1)
    done = run("keys", url)
    assert done.stdout.splitlines() == ["\\x1b[2Jsly", "user:1", "user:2"]
    assert json.loads(run("keys", url, "--pattern", "user:*", "--json").stdout) == ["user:1", "user:2"]
    assert run("keys", url, "--namespace", "other").stdout == ""


def test_inspect_shows_an_answer_and_all_about_it(url: str, tmp_path: Path) -> None:
    told = json.loads(run("inspect", url, "--key", "user:1", "--json").stdout)
    assert (told["kind"], told["stored"], told["tags"], told["value"]) == ("text", True, ["users"], LARGE)
    assert 0 < told["seconds_left"] <= 3600
    shown = run("inspect", url, "--key", "user:2").stdout
    assert "\x1b" not in shown
    assert str(2**70) in shown
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"messages": [], "model": "m"}))
    assert "an answer" in run("inspect", url, "--request", str(request)).stdout


def test_looking_is_not_counted_as_use(url: str) -> None:
    run("inspect", url, "--key", "user:1")
    run("inspect", url, "--key", "nothing")
    with Cache(url) as cache:
        total = cache.savings().total
    assert (total.hits, total.misses) == (0, 0)


def test_inspect_of_what_is_not_there_says_so(url: str) -> None:
    done = run("inspect", url, "--key", "absent")
    assert done.exit_code == 1
    assert "nothing that may be served" in done.stdout
    assert run("inspect", url).exit_code == 2
    assert run("inspect", url, "--key", "a", "--request", "b").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "count", "left"),
    [
        (["--tag", "users"], 1, ["user:2"]),
        (["--pattern", "user:*"], 2, []),
        (["--key", "user:2"], 1, ["user:1"]),
        (["--source", "https://example.org"], 0, ["user:1", "user:2"]),
        (["--all"], 3, []),
    ],
)
def test_purge_by_each_selector(url: str, arguments: list[str], count: int, left: list[str]) -> None:
    assert json.loads(run("purge", url, *arguments, "--json").stdout) == {"invalidated": count}
    with Cache(url) as cache:
        assert sorted(cache.keys()) == left


def test_purge_without_or_with_two_selectors_changes_nothing(url: str) -> None:
    assert run("purge", url).exit_code == 2
    assert run("purge", url, "--all", "--tag", "users").exit_code == 2
    with Cache(url) as cache:
        assert len(cache.keys()) == 2


def test_sweep_tells_on_a_dry_run_what_it_then_removes(url: str) -> None:
    told = json.loads(run("sweep", url, "--grace", "0s", "--dry-run", "--json").stdout)
    (tier,) = told["tiers"].values()
    assert (tier["unnamed"], tier["missing"]) == (1, 0)
    assert "Would be removed" in run("sweep", url, "--grace", "0s", "--dry-run").stdout
    done = json.loads(run("sweep", url, "--grace", "0s", "--json").stdout)
    assert done["tiers"] == told["tiers"]
    (tier,) = json.loads(run("sweep", url, "--grace", "0s", "--json").stdout)["tiers"].values()
    assert tier["unnamed"] == 0
    with Cache(url) as cache:
        assert cache.get("user:1") == LARGE


def test_sweep_of_all_tenants_needs_no_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, secret="s") as cache:
        for name in ("a", "b"):
            view = cache.tenant(name)
            view.set("kept", LARGE, tags=["t"])
            view.set("gone", {"text": "gone " * 10_000})
            view.delete("gone")
    (tier,) = json.loads(run("sweep", url, "--all-tenants", "--grace", "0s", "--json").stdout)["tiers"].values()
    assert (tier["unnamed"], tier["dead"], tier["blobs"]) == (2, 0, 4)
    with Cache(url, secret="s") as cache:
        assert [cache.tenant(name).get("kept") for name in ("a", "b")] == [LARGE, LARGE]


def test_verify_finds_damage_and_repairs_it(url: str) -> None:
    assert run("verify", url).exit_code == 0
    backend = open_backend(url)
    assert not isinstance(backend, str)
    names = [stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"]
    for name in names:
        backend.put(name, b"damaged")
    backend.close()
    found = run("verify", url)
    assert found.exit_code == 1
    assert "too few for a frame" in found.stderr
    assert run("verify", url, "--repair").exit_code == 0
    assert run("verify", url).exit_code == 0
    with Cache(url) as cache:
        assert cache.get("user:1") is MISSING
        assert cache.get("user:2")["n"] == 2


def test_a_keyring_comes_from_the_environment_and_is_never_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, keyring=RING, secret="s") as cache:
        cache.set("key", "clear words")
    env = {"AGENTCACHE_KEYRING": "1:" + (b"k" * 32).hex(), "AGENTCACHE_SECRET": "s"}
    assert "clear words" in run("inspect", url, "--key", "key", env=env).stdout
    assert run("inspect", url, "--key", "key").exit_code == 1
    for wrong in ("1:" + "6b" * 31, "1:xyz", "nonsense"):
        done = run("keys", url, env={"AGENTCACHE_KEYRING": wrong})
        assert done.exit_code == 2
        assert wrong not in done.stderr


def test_the_plan_shows_each_move_and_what_it_saves(tmp_path: Path) -> None:
    hot, cold = f"sqlite:///{tmp_path}/hot.db", f"sqlite:///{tmp_path}/cold.db"
    with Cache([hot, cold], maintenance="manual") as cache:
        cache.set("key", LARGE)
    arguments = ("tiering", "plan", hot, cold, "--cold-after", "0s", "--cold", "0.5")
    told = json.loads(run(*arguments, "--json").stdout)
    assert [move["verb"] for move in told["moves"]] == ["demote"]
    assert told["saves"] > 0
    shown = run(*arguments).stdout
    assert "1 of 1 entries would move" in shown
    assert json.loads(run("tiering", "plan", hot, cold, "--policy", "cost", "--json").stdout)["items"] == 1


def test_a_mistyped_path_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    for command in (["keys"], ["sweep"], ["verify"], ["purge", "--all"], ["tiering", "plan"]):
        done = run(*command, f"sqlite:///{path}")
        assert done.exit_code == 2
        assert str(path) in done.stderr
    assert not os.path.exists(path)
    assert run("keys", "memory://").exit_code == 2
    assert run("keys", "gopher://x").exit_code == 2
    assert run("sweep", f"sqlite:///{path}", "--grace", "soon").exit_code == 2


@pytest.mark.parametrize("scheme", ["file", "fsspec"])
def test_a_mistyped_folder_is_not_created(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "typo"
    url = f"file://{path}" if scheme == "file" else f"fsspec://file{path}"
    other = f"sqlite:///{tmp_path}/other.db"
    Cache(other).close()
    for command in (["keys"], ["stats"], ["sweep"], ["verify"], ["purge", "--all"], ["tiering", "plan", other]):
        done = run(*command, url)
        assert done.exit_code == 2
        assert f"there is no store in {path}" in done.stderr
    looked = run("doctor", url, "--json")
    assert (looked.exit_code, f"there is no store in {path}" in looked.stdout) == (1, True)
    assert not path.exists()


def test_a_plan_of_one_tier_asks_for_two(url: str) -> None:
    for tiers in ([url], ["memory://", url]):
        done = run("tiering", "plan", *tiers)
        assert done.exit_code == 2
        assert "name two tiers" in done.stderr


def test_entries_are_shown_by_their_keys(tmp_path: Path) -> None:
    hot, cold = f"sqlite:///{tmp_path}/hot.db", f"sqlite:///{tmp_path}/cold.db"
    request = {"model": "m", "messages": []}
    with Cache([hot, cold], maintenance="manual", deadline="30s") as cache:
        cache.set("u\x1b[", LARGE)
        cache.set(request, LARGE)
        digest = cache.key(request).digest.hex()
    arguments = ("tiering", "plan", hot, cold, "--cold-after", "0s", "--cold", "0.5")
    shown = run(*arguments).stdout
    assert "u\\x1b[" in shown
    assert digest[:8] in shown
    moves = json.loads(run(*arguments, "--json").stdout)["moves"]
    assert {move["key"] for move in moves} == {"u\x1b[", digest}
    backend: Any = open_backend(cold)
    for stat in [stat for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"]:
        backend.put(stat.name, b"damaged")
    backend.close()
    told = run("verify", cold)
    assert told.exit_code == 1
    assert "u\\x1b[: " in told.stderr


def test_the_plan_names_no_move_that_its_target_would_refuse(tmp_path: Path) -> None:
    urls = [f"file://{tmp_path}/hot", f"file://{tmp_path}/cold"]
    tiers = [Tier(urls[0], max_value="1KiB"), urls[1]]
    with Cache(tiers, maintenance="manual", background=False, deadline="30s") as cache:
        cache.set("small", {"text": "small"})
        cache.set("large", LARGE)
        for _ in range(6):
            assert (cache.get("small"), cache.get("large")) == ({"text": "small"}, LARGE)
        backend: Any = open_backend(urls[0])
        for stat in list(backend.scan(b"")):
            backend.delete(stat.name)
        backend.close()
        planned = cache.maintain(dry_run=True, policy=Rules(hot=0.5))
        assert list(planned.shown.values()) == ["small"]
        assert cache.maintain(policy=Rules(hot=0.5)).moved == len(planned.plan.moves) == 1


@pytest.mark.s3
def test_a_sweep_with_too_little_grace_is_refused_where_blobs_cannot_be_touched(s3_url: str) -> None:
    place = f"{s3_url}&timeout=20s"
    with Cache(place, background=False, deadline="30s") as cache:
        cache.set("kept", LARGE)
        cache.set("gone", {"text": "gone " * 10_000})
        cache.delete("gone")
    done = run("sweep", place, "--grace", "1h")
    assert done.exit_code == 2
    assert "--grace 6h or more" in done.stderr
    assert run("sweep", place, "--grace", "6h").exit_code == 0
    assert run("sweep", place, "--grace", "0s", "--dry-run").exit_code == 0
    (tier,) = json.loads(run("sweep", place, "--grace", "0s", "--alone", "--json").stdout)["tiers"].values()
    assert tier["unnamed"] == 1
