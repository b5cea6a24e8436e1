"""Assets: stored once, behind addresses whose content never changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from service_stand import Stand, stand_in
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.cacheapi import assets
from agentcache_service.clock import FixedClock
from agentcache_service.usage import quota
from agentcache_service.usage.tables import UsageCounter


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def _upload(client: TestClient, key: str, content: bytes, **query: Any) -> dict[str, Any]:
    answer = client.post("/api/assets", params={"key": key, **query}, content=content)
    assert answer.status_code == 201, answer.text
    return answer.json()


def _path(asset: dict[str, Any]) -> str:
    return asset["url"].removeprefix("http://testserver")


def _charged(stand: Stand) -> int:
    with stand.service.db.read() as session:
        return quota.used(session, stand.org_id, "asset_bytes", quota.STOCK) or 0


def test_an_asset_is_stored_once_and_read_in_parts_by_key_and_by_link(stand: Stand) -> None:
    content = bytes(range(256)) * 2000
    first = stand.api.post("/api/assets", params={"key": "fw/1.bin"}, content=content).json()
    again = stand.api.post("/api/assets", params={"key": "fw/copy.bin"}, content=content).json()
    assert (first["deduplicated"], again["deduplicated"]) == (False, True)
    assert again["url"] == first["url"]
    with stand.service.db.read() as session:
        row = session.scalars(select(UsageCounter).where(UsageCounter.metric == "asset_bytes")).one()
    assert (row.period, row.used) == (quota.STOCK, len(content))
    path = first["url"].removeprefix("http://testserver")
    assert stand.api.get(path).content == content
    part = stand.api.get(path, headers={"range": "bytes=1000-1009"})
    assert (part.status_code, part.content) == (206, content[1000:1010])
    assert stand.api.get(path, headers={"range": "bytes=-5"}).content == content[-5:]
    anybody = TestClient(build_app(service=stand.service))
    link = first["signed_url"].removeprefix("http://testserver")
    assert anybody.get(link).content == content
    assert anybody.get(link.replace(first["asset"], "ast_other")).status_code == 404
    assert anybody.get(link[:-2]).status_code == 404
    assert anybody.get(path).status_code == 401
    stand.clock.advance(hours=2)
    assert anybody.get(link).status_code == 404
    assert stand.api.get(path).status_code == 200


def test_assets_need_a_plan_that_includes_them(tmp_path: Any) -> None:
    service = make_service(make_settings(tmp_path), FixedClock())
    user = world.make_user(service, "ada")
    key = world.make_key(service, world.make_org(service, user, plan="free"), user, use_in="cdn")
    client = TestClient(build_app(service=service), headers=dict(key.headers))
    answer = client.post("/api/assets", params={"key": "k"}, content=b"x")
    assert (answer.status_code, answer.json()["error"]) == (402, "feature_not_in_plan")
    service.close()


def test_an_address_never_answers_other_content_than_it_was_given_for(stand: Stand) -> None:
    first = _upload(stand.api, "k1", b"A" * 1000)
    second = _upload(stand.api, "k2", b"A" * 1000)
    assert second["url"] == first["url"]
    third = _upload(stand.api, "k1", b"B" * 1000)
    assert third["url"] != first["url"]
    assert stand.api.get(_path(second)).content == b"A" * 1000
    assert stand.api.get(second["signed_url"].removeprefix("http://testserver")).content == b"A" * 1000
    assert stand.api.get(_path(third)).content == b"B" * 1000
    _upload(stand.api, "k2", b"C" * 1000)
    assert stand.api.get(_path(first)).status_code == 404
    assert _charged(stand) == 2000
    assert _upload(stand.api, "k3", b"A" * 1000)["url"] == first["url"]
    assert stand.api.get(_path(first)).content == b"A" * 1000


def test_content_of_another_type_has_another_address(stand: Stand) -> None:
    page = stand.api.post("/api/assets?key=a", content=b"<p>", headers={"content-type": "text/html"}).json()
    text = stand.api.post("/api/assets?key=b", content=b"<p>", headers={"content-type": "text/plain"}).json()
    assert text["deduplicated"]
    for asset, kind in ((page, "text/html"), (text, "text/plain")):
        assert stand.api.get(_path(asset)).headers["content-type"].partition(";")[0] == kind


def test_an_address_lives_as_long_as_the_longest_of_its_keys(stand: Stand) -> None:
    short = _upload(stand.api, "k3", b"same", ttl=2)
    kept = _upload(stand.api, "k4", b"same")
    assert kept["url"] == short["url"]
    assert (short["expires_at"] is None, kept["expires_at"]) == (False, None)
    stand.clock.advance(seconds=3)
    assert stand.api.get(_path(kept)).content == b"same"


def test_an_address_all_of_whose_keys_expired_is_gone_and_comes_back_with_the_content(stand: Stand) -> None:
    short = _upload(stand.api, "k3", b"same", ttl=2)
    stand.clock.advance(seconds=3)
    assert stand.api.get(_path(short)).status_code == 404
    again = _upload(stand.api, "k5", b"same")
    assert stand.api.get(_path(again)).content == b"same"


def test_a_key_of_one_namespace_is_given_an_address_it_can_read_and_no_other(stand: Stand) -> None:
    ours = _upload(stand.api, "k", b"shared")
    _upload(stand.api, "secret", b"only in storage")
    narrow = stand.key(namespaces=["cdn"], use_in="cdn")
    theirs = _upload(narrow, "k", b"shared")
    assert narrow.get(_path(theirs)).content == b"shared"
    assert narrow.get(_path(_upload(stand.api, "secret", b"only in storage"))).status_code == 404
    assert ours["url"] == theirs["url"]


def test_an_upload_that_is_overtaken_leaves_the_later_content_and_its_charge(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = assets._entry_name

    def overtaken(view: Any, key: str) -> str:
        monkeypatch.setattr(assets, "_entry_name", named)
        _upload(stand.api, "k", b"later")
        return named(view, key)

    monkeypatch.setattr(assets, "_entry_name", overtaken)  # called between the engine's write and the record's
    early = _upload(stand.api, "k", b"early, and longer")
    late = _upload(stand.api, "k2", b"later")
    assert stand.api.get(_path(early)).status_code == 404
    assert stand.api.get(_path(late)).content == b"later"
    assert _charged(stand) == len(b"later")


def test_content_that_storage_lost_is_a_404_before_anything_is_sent(stand: Stand) -> None:
    asset = _upload(stand.api, "k", b"x" * 500_000)
    space = stand.service.engine.space(stand.org_id, "storage")
    for stat in list(stand.service.engine.objects.scan(space.blobs_prefix)):
        stand.service.engine.objects.delete(stat.name)
    assert stand.api.get(_path(asset)).status_code == 404


def test_a_signed_link_may_be_embedded_by_pages_of_others_and_nothing_else_may(stand: Stand) -> None:
    asset = _upload(stand.api, "k", b"image")
    link = asset["signed_url"].removeprefix("http://testserver")
    assert stand.api.get(link).headers["cross-origin-resource-policy"] == "cross-origin"
    assert stand.api.get(_path(asset)).headers["cross-origin-resource-policy"] == "same-origin"
    assert stand.api.get("/").headers["cross-origin-resource-policy"] == "same-origin"


def test_head_tells_of_an_asset_what_get_would_and_sends_and_charges_nothing(stand: Stand) -> None:
    asset = _upload(stand.api, "k", b"0123456789")
    for path in (_path(asset), asset["signed_url"].removeprefix("http://testserver")):
        told = stand.api.head(path)
        assert (told.status_code, told.content, told.headers["content-length"]) == (200, b"", "10")
        assert told.headers["etag"] == stand.api.get(path).headers["etag"]
        part = stand.api.head(path, headers={"range": "bytes=2-4"})
        assert (part.status_code, part.headers["content-range"]) == (206, "bytes 2-4/10")
        assert stand.api.get(path, headers={"if-none-match": told.headers["etag"]}).status_code == 304
        assert stand.api.get(path, headers={"range": "bytes=99-"}).status_code == 416
    stand.service.meter.flush(everything=True)
    with stand.service.db.read() as session:
        sent = quota.used(session, stand.org_id, "bandwidth_bytes", f"{stand.clock.now():%Y-%m}")
    assert sent == 20  # the two whole downloads
