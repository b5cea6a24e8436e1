"""Agents on the marketplace: made from a template, packed, uploaded, moderated, bought, run from the README."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from agentcache_adapters.agents.pack import PackError, pack
from agentcache_adapters.agents.templates import NAMES, TemplateError, new_agent, template
from agentcache_adapters.cli.app import app as command_line
from agentcache_service.clock import FixedClock
from agentcache_service.jobs_tables import Job
from agentcache_service.market.archive import check_package
from agentcache_service.service import Service

EXPECTED = {
    "basic-agent": {"src/main.py", "src/config.py", "src/utils.py", "requirements.txt", "README.md", "deployment.yaml"},
    "web-agent": {"frontend/index.html", "backend/server.py", "compose.yaml", "README.md"},
    "mobile-agent": {"ios/AgentClient.swift", "android/AgentClient.kt", "shared/contract.json", "README.md"},
    "enterprise-agent": {
        "services/gateway/gateway.py",
        "services/worker/worker.py",
        "kubernetes/gateway.yaml",
        "monitoring/prometheus.yaml",
        "README.md",
    },
}


def listed_agent(creator: Any, package: bytes, **changes: Any) -> str:
    """A published agent."""
    creator.send("PUT", "/api/market/creator", json={"display_name": "Ada"})
    creator.send("PUT", "/api/billing/payout-method", json={"email": "ada@example.com"})
    body = {
        "kind": "agent",
        "name": "Ticket triage",
        "summary": "Sorts tickets.",
        "category": "automation",
        "description": "Reads tickets and says who should answer them.",
        "price": 20_000_000,
        **changes,
    }
    listing = creator.send("POST", "/api/market/listings", json=body, expect=201)["id"]
    upload(creator, listing, "1.0.0", package)
    creator.send("POST", f"/api/market/listings/{listing}/publish")
    return str(listing)


def upload(creator: Any, listing: str, version: str, package: bytes, *, expect: int = 201) -> Any:
    files = {"package": ("agent.zip", package, "application/zip")}
    path = f"/api/market/listings/{listing}/versions"
    return creator.send("POST", path, data={"version": version, "notes": "News"}, files=files, expect=expect)


def package_of(folder: Path, name: str = "basic-agent") -> bytes:
    new_agent("my-agent", folder, of=name)
    return pack(folder / "my-agent").path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_every_template_has_its_files_and_packs_into_an_acceptable_package(name: str, tmp_path: Path) -> None:
    assert EXPECTED[name] <= set(template(name).files)
    package = check_package(package_of(tmp_path, name))
    assert package.findings == ()
    assert "my-agent" in package.readme
    assert not [file.path for file in package.files if file.path.endswith(".txtpl")]
    for path in (tmp_path / "my-agent").rglob("*.py"):
        compile(path.read_text("utf-8"), str(path), "exec")


def test_packing_twice_gives_the_same_bytes_and_leaves_secrets_out(tmp_path: Path) -> None:
    new_agent("my-agent", tmp_path)
    home = tmp_path / "my-agent"
    (home / ".env").write_text("MODEL_KEY=secret")
    (home / "agent.db").write_text("x")
    first, second = pack(home, tmp_path / "a.zip"), pack(home, tmp_path / "b.zip")
    assert first.sha256 == second.sha256
    assert ".env.example" in first.files
    assert not {".env", "agent.db"} & set(first.files)


def test_a_folder_with_a_link_or_without_a_readme_is_not_packed(tmp_path: Path) -> None:
    new_agent("my-agent", tmp_path)
    home = tmp_path / "my-agent"
    (home / "link").symlink_to("/etc/hostname")
    with pytest.raises(PackError, match="link"):
        pack(home)
    (home / "link").unlink()
    (home / "README.md").unlink()
    with pytest.raises(PackError, match="README"):
        pack(home)


def test_the_command_line_makes_and_packs(tmp_path: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(command_line, ["agents", "new", "my-agent", "--folder", str(tmp_path)])
    assert made.exit_code == 0, made.output
    packed = runner.invoke(command_line, ["agents", "pack", str(tmp_path / "my-agent")])
    assert packed.exit_code == 0, packed.output
    assert (tmp_path / "my-agent.zip").exists()
    assert runner.invoke(command_line, ["agents", "new", "my-agent", "--folder", str(tmp_path)]).exit_code == 2
    with pytest.raises(TemplateError, match="choose one of"):
        new_agent("other", tmp_path, of="nonsense")


def test_a_bought_package_is_downloaded_by_a_signed_link_counted_and_runs_from_its_readme(
    person: Callable[..., Any], tmp_path: Path, books: Any
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    body = package_of(tmp_path)
    listing = listed_agent(ada, body)
    purchase = bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)
    assert purchase["transferred_at"] is not None
    (version,) = bob.send("GET", f"/api/market/purchases/{purchase['id']}/access")["versions"]
    parcel = bob.http.get(version["download"].removeprefix("http://testserver"))
    assert parcel.content == body
    assert parcel.headers["x-content-sha256"] == version["sha256"]
    assert ada.send("GET", f"/api/market/listings/{listing}")["downloads"] == 1
    assert books() == {"cash:local": 20_000_000, "revenue:commission": -2_000_000, f"creator:{ada.org_id}": -18_000_000}

    home = tmp_path / "bought"
    with zipfile.ZipFile(io.BytesIO(parcel.content)) as archive:
        archive.extractall(home)
    commands = re.findall(r"^python (.+)$", (home / "README.md").read_text("utf-8"), re.MULTILINE)
    said = [_run(home, commands[0]) for _ in range(2)]
    assert said[0].endswith("(from the model)")
    assert said[1].endswith("(from the cache)")


def _run(home: Path, command: str) -> str:
    import shlex

    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_mobile_contract_check_runs_from_its_readme(tmp_path: Path) -> None:
    new_agent("my-agent", tmp_path, of="mobile-agent")
    assert _run(tmp_path / "my-agent", "shared/check.py") == "the backend keeps the contract"


def test_a_link_that_was_changed_or_is_old_downloads_nothing(
    person: Callable[..., Any], tmp_path: Path, clock: FixedClock
) -> None:
    ada, bob, eve = person("ada"), person("bob", card="card_ok"), person("eve")
    listing = listed_agent(ada, package_of(tmp_path))
    purchase = bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)["id"]
    (version,) = bob.send("GET", f"/api/market/purchases/{purchase}/access")["versions"]
    link = version["download"].removeprefix("http://testserver")
    assert eve.http.get(link.replace("version=1.0.0", "version=1.0.1")).status_code == 403
    path = f"/api/market/purchases/{purchase}/download"
    assert eve.http.get(path, headers=eve.headers).status_code == 404
    assert eve.http.get(path).status_code == 401
    assert bob.http.get(path, headers=bob.headers).status_code == 200
    clock.advance(minutes=16)
    assert eve.http.get(link).json()["error"] == "link_expired"


def test_a_subscription_keeps_what_was_published_while_it_lasted(
    person: Callable[..., Any], tmp_path: Path, clock: FixedClock
) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    body = package_of(tmp_path)
    listing = listed_agent(ada, body, pricing="subscription")
    purchase = bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)["id"]
    bob.send("POST", f"/api/market/purchases/{purchase}/cancel")
    clock.advance(days=40)
    bob.sign_in()
    ada.sign_in()
    upload(ada, listing, "2.0.0", body)
    versions = bob.send("GET", f"/api/market/purchases/{purchase}/access")["versions"]
    assert [version["version"] for version in versions] == ["1.0.0"]


def test_buyers_are_told_of_a_new_version_once(person: Callable[..., Any], tmp_path: Path, shop: Service) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    body = package_of(tmp_path)
    listing = listed_agent(ada, body)
    bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)
    upload(ada, listing, "1.1.0", body)
    with shop.db.read() as session:
        mails = [job for job in session.scalars(select(Job)) if (job.dedupe_key or "").startswith("version:")]
    assert [job.org_id for job in mails] == [bob.org_id]


def test_a_bad_package_is_refused_with_the_file_and_the_reason(person: Callable[..., Any], tmp_path: Path) -> None:
    ada = person("ada")
    listing = listed_agent(ada, package_of(tmp_path))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.md", "# x")
        archive.writestr("../evil.py", "x")
    refused = upload(ada, listing, "2.0.0", buffer.getvalue(), expect=422)
    assert refused["error"] == "package_refused"
    assert "../evil.py" in refused["message"]


def test_a_package_with_a_secret_waits_for_a_moderator_and_may_be_appealed(
    person: Callable[..., Any], tmp_path: Path
) -> None:
    ada = person("ada")
    first, second = person("mod1", staff=True), person("mod2", staff=True)
    new_agent("my-agent", tmp_path)
    secret = "AKIA" + "IOSFODNN7EXAMPLQ"
    (tmp_path / "my-agent" / "src" / "keys.py").write_text(f"KEY = '{secret}'\n")
    listing = listed_agent(ada, pack(tmp_path / "my-agent").path.read_bytes())
    assert ada.send("GET", f"/api/market/listings/{listing}")["status"] == "draft"
    (case,) = first.send("GET", "/api/admin/moderation")
    assert case["findings"] == ["src/keys.py:1: AWS access key"]
    assert secret not in str(case)
    decision = f"/api/admin/moderation/{case['id']}/decision"
    first.send("POST", decision, json={"decision": "reject"}, expect=422)
    first.send("POST", decision, json={"decision": "reject", "note": "Take the key out."})
    assert ada.send("GET", "/api/market/creator/cases")[0]["decision_note"] == "Take the key out."
    ada.send("POST", f"/api/market/cases/{case['id']}/appeal", json={"words": "It is the published example key."})
    assert first.send("POST", decision, json={"decision": "approve"}, expect=409)["error"] == "same_moderator"
    assert second.send("POST", decision, json={"decision": "approve"})["state"] == "overturned"
    assert ada.send("GET", f"/api/market/listings/{listing}")["status"] == "active"


def test_only_buyers_review_once_and_a_hidden_review_does_not_count(person: Callable[..., Any], tmp_path: Path) -> None:
    ada, bob, eve, staff = person("ada"), person("bob", card="card_ok"), person("eve"), person("staff", staff=True)
    listing = listed_agent(ada, package_of(tmp_path))
    path = f"/api/market/listings/{listing}"
    assert eve.send("POST", f"{path}/reviews", json={"rating": 1}, expect=403)["error"] == "not_a_buyer"
    bob.send("POST", f"{path}/purchase", expect=201)
    bob.send("POST", f"{path}/reviews", json={"rating": 6}, expect=422)
    bob.send("POST", f"{path}/reviews", json={"rating": 2, "words": "Meh."})
    review = bob.send("POST", f"{path}/reviews", json={"rating": 5, "words": "Better now."})
    found = eve.send("GET", path)
    assert (found["rating"], found["ratings"]) == (5.0, 1)
    report = {"listing": listing, "review": review["id"], "words": "This is an advertisement."}
    ada.send("POST", "/api/market/reports", json=report, expect=201)
    ada.send("POST", "/api/market/reports", json=report, expect=409)
    (case,) = staff.send("GET", "/api/admin/moderation")
    staff.send("POST", f"/api/admin/moderation/{case['id']}/decision", json={"decision": "reject", "note": "Ad."})
    found = eve.send("GET", path)
    assert (found["rating"], found["reviews"]) == (None, [])


def test_buyer_and_creator_talk_and_nobody_else_reads(person: Callable[..., Any], tmp_path: Path) -> None:
    ada, bob, eve = person("ada"), person("bob", card="card_ok"), person("eve")
    listing = listed_agent(ada, package_of(tmp_path))
    purchase = bob.send("POST", f"/api/market/listings/{listing}/purchase", expect=201)["id"]
    path = f"/api/market/purchases/{purchase}/messages"
    bob.send("POST", path, json={"words": "How do I start it?"}, expect=201)
    ada.send("POST", path, json={"words": "See the README."}, expect=201)
    assert [row["sender"] for row in bob.send("GET", path)] == ["buyer", "creator"]
    eve.send("GET", path, expect=404)


def test_search_filters_orders_and_recommends(person: Callable[..., Any], tmp_path: Path) -> None:
    ada, bob = person("ada"), person("bob", card="card_ok")
    body = package_of(tmp_path)
    made = {
        name: listed_agent(ada, body, name=name, price=price, tags=tags, use_case=use)
        for name, price, tags, use in (
            ("Alpha sorter", 5_000_000, ["mail"], "support desk"),
            ("Beta sorter", 9_000_000, ["mail"], "support desk"),
            ("Gamma painter", 7_000_000, ["image"], "studio"),
        )
    }

    def names(query: str) -> list[str]:
        return [row["name"] for row in bob.send("GET", f"/api/market/search?{query}")["results"]]

    assert names("q=sorter&sort=price") == ["Alpha sorter", "Beta sorter"]
    assert names("tag=image") == ["Gamma painter"]
    assert names("use_case=support&min_price=6000000") == ["Beta sorter"]
    assert names("q=100%25_") == []
    assert names("kind=model") == []
    for name in ("Alpha sorter", "Gamma painter"):
        bob.send("POST", f"/api/market/listings/{made[name]}/purchase", expect=201)
    bob.send("POST", f"/api/market/listings/{made['Alpha sorter']}/reviews", json={"rating": 5})
    assert names("min_rating=4") == ["Alpha sorter"]
    assert names("sort=rating")[0] == "Alpha sorter"
    detail = bob.send("GET", f"/api/market/listings/{made['Alpha sorter']}")
    assert detail["similar"][0]["name"] == "Beta sorter"
    assert [row["name"] for row in detail["bought_together"]] == ["Gamma painter"]
    assert len(bob.send("GET", "/api/market/templates")) == 4
