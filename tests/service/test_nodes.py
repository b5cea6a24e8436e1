"""Nodes: whatever is shown of a namespace's settings has its effect, and a namespace keeps the version it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from service_stand import Stand, stand_in

from agentcache_core import Cache
from agentcache_core.clock import ManualClock
from agentcache_service.identity import presets
from agentcache_service.web.pages import effects


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def _nodes(stand: Stand, nodes: list[dict[str, Any]], *, expect: int = 200, name: str = "storage") -> dict[str, Any]:
    path = f"/api/orgs/{stand.org_id}/namespaces/{name}/nodes"
    answer = stand.browser().put(path, json={"nodes": nodes})
    assert answer.status_code == expect, answer.text
    return answer.json()


def test_every_setting_of_every_preset_is_known_told_and_within_its_bounds() -> None:
    for key, node in presets.nodes().items():
        assert node.settings, key
        presets.as_stored(presets.CUSTOM, node.settings)  # raises for a setting that nothing heeds
        assert len(effects(node.settings)) == len(node.settings), key


@pytest.mark.parametrize(
    "settings",
    [
        {"deduplicate": False},
        {"listen": True},
        {"inline_max_bytes": 1},
        {"ttl_s": 0},
        {"ttl_s": 10**18},
        {"ttl_s": True},
        {"semantic": 5.0},
        {"semantic": -1.0},
        {"stale_while_revalidate_s": -1},
        {"assets": 1},
    ],
)
def test_settings_without_effect_or_out_of_bounds_are_refused(stand: Stand, settings: dict[str, Any]) -> None:
    refused = _nodes(stand, [{"preset": "custom", "settings": settings}], expect=422)
    assert refused["error"] in {"node_setting", "invalid"}


def test_ttl_is_how_long_an_entry_is_fresh(stand: Stand) -> None:
    _nodes(stand, [{"preset": "custom", "settings": {"ttl_s": 60}}])
    assert stand.api.post("/api/cache/set", json={"key": "k", "value": 1}).json()["expires_at"].endswith("12:01:00Z")


def test_assets_off_refuses_uploads(stand: Stand) -> None:
    assert stand.api.post("/api/assets?key=a", content=b"x").status_code == 201
    _nodes(stand, [{"preset": "custom", "settings": {"assets": False}}])
    answer = stand.api.post("/api/assets?key=b", content=b"x")
    assert (answer.status_code, answer.json()["error"]) == (403, "assets_off")


def test_a_stale_entry_is_served_as_stale_for_as_long_as_the_node_says(stand: Stand) -> None:
    clock = ManualClock()
    _with_clock(stand, clock)
    _nodes(stand, [{"preset": "custom", "settings": {"ttl_s": 60, "stale_while_revalidate_s": 30}}])
    stand.api.post("/api/cache/set", json={"key": "k", "value": {"v": 1}})

    def look(**options: Any) -> Mapping[str, Any]:
        return stand.api.post("/api/cache/get", json={"key": "k", **options}).json()

    assert (look()["freshness"], look()["value"]) == ("fresh", {"v": 1})
    clock.advance(61)
    assert (look()["freshness"], look()["value"]) == ("stale", {"v": 1})
    assert look(max_age=10) == {"hit": False}
    stand.api.post("/api/cache/set", json={"key": "k", "value": {"v": 2}})
    assert (look()["freshness"], look()["value"]) == ("fresh", {"v": 2})
    clock.advance(91)
    assert look() == {"hit": False}


def _with_clock(stand: Stand, clock: ManualClock) -> None:
    """Give the engine a clock of the test's: it is opened anew with it."""
    engine = stand.service.engine
    engine.close()
    engine._cache = Cache(list(stand.service.settings.cache_tiers), deadline="10s", max_staleness="1s", clock=clock)


def test_a_namespace_keeps_the_version_it_was_given_and_is_moved_to_the_newest_when_asked(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _nodes(stand, [{"preset": "metadata_cache"}])
    assert before["settings"]["ttl_s"] == 3600
    old = presets.nodes()
    newer = presets.Node("metadata_cache", 2, "Metadata", "…", {"ttl_s": 60, "semantic": False})
    monkeypatch.setattr(presets, "nodes", lambda: {**old, "metadata_cache": newer})
    kept = _nodes(stand, [{"preset": "metadata_cache", "settings": {"semantic": 0.9}}])
    (node,) = kept["nodes"]
    assert (node["version"], node["newest_version"]) == (1, 2)
    assert kept["settings"] == {"ttl_s": 3600, "semantic": 0.9}
    assert _nodes(stand, [{"preset": "metadata_cache", "version": 3}], expect=422)["error"] == "node_version"
    moved = _nodes(stand, [{"preset": "metadata_cache", "version": 2}])
    assert (moved["nodes"][0]["version"], moved["settings"]["ttl_s"]) == (2, 60)
    assert _nodes(stand, [{"preset": "metadata_cache"}], name="cdn")["settings"]["ttl_s"] == 60


def test_the_page_tells_of_newer_versions_and_moves_to_them(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    _nodes(stand, [{"preset": "metadata_cache", "settings": {"semantic": True}}])
    browser, old = stand.browser(), presets.nodes()
    assert "is out." not in browser.get("/dashboard/namespaces").text
    newer = presets.Node("metadata_cache", 2, "Metadata", "…", {"ttl_s": 60, "semantic": False})
    monkeypatch.setattr(presets, "nodes", lambda: {**old, "metadata_cache": newer})
    assert "Metadata: version 1 in use, version 2 is out." in browser.get("/dashboard/namespaces").text
    done = browser.post("/dashboard/namespaces/storage/upgrade", follow_redirects=False)
    assert done.status_code == 303
    rooms = browser.get(f"/api/orgs/{stand.org_id}/namespaces").json()
    (storage,) = [room for room in rooms if room["name"] == "storage"]
    assert storage["settings"] == {"ttl_s": 60, "semantic": True}
    assert "matched by meaning" in browser.get("/dashboard/namespaces").text


def test_what_an_older_version_said_and_nothing_heeds_is_not_shown() -> None:
    old = {"preset": "seagate_lyve_connector", "version": 1, "base": {"assets": True, "inline_max_bytes": 65536}}
    assert presets.effective([old]) == {"assets": True}
