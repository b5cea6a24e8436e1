"""Raw values: what was put comes back, with its type, whole or in part, and only what is sent is charged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from service_stand import Stand, stand_in

from agentcache_service.usage import quota

PATH = "/api/cache/value?key=pictures/1"


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def _charged(stand: Stand) -> int:
    stand.service.meter.flush(everything=True)
    with stand.service.db.read() as session:
        return quota.used(session, stand.org_id, "bandwidth_bytes", f"{stand.clock.now():%Y-%m}") or 0


def test_the_content_type_of_a_put_comes_back(stand: Stand) -> None:
    assert stand.api.put(PATH, content=b"\x89PNG", headers={"content-type": "image/png"}).status_code == 200
    answer = stand.api.get(PATH)
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert answer.headers["content-disposition"] == "attachment"  # never a page of ours
    stand.api.post("/api/cache/set", json={"key": "pictures/1", "value": {"a": 1}})
    assert stand.api.get(PATH).headers["content-type"] == "application/json"
    stand.api.post("/api/cache/set", json={"key": "pictures/1", "value": "aGk=", "encoding": "base64"})
    assert stand.api.get(PATH).headers["content-type"] == "application/octet-stream"


def test_head_tells_size_and_type_without_the_body_and_a_part_costs_its_own_bytes(stand: Stand) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB, several blocks
    stand.api.put(PATH, content=content, headers={"content-type": "application/zip"})
    told = stand.api.head(PATH)
    assert (told.status_code, told.content) == (200, b"")
    assert (told.headers["content-length"], told.headers["content-type"]) == (str(len(content)), "application/zip")
    assert _charged(stand) == 0
    part = stand.api.get(PATH, headers={"range": "bytes=1000-300999"})
    assert (part.status_code, part.content) == (206, content[1000:301000])
    assert _charged(stand) == 300_000
    assert stand.api.get(PATH, headers={"if-none-match": told.headers["etag"]}).status_code == 304
    assert stand.api.get(PATH, headers={"range": "bytes=9999999-"}).status_code == 416
    assert _charged(stand) == 300_000
    assert stand.api.get(PATH).content == content
    assert stand.api.head("/api/cache/value?key=absent").status_code == 404
