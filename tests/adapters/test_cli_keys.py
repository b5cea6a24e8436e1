"""`agentcache explain` and `agentcache diff`, as typed at a prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app
from agentcache_core.keys import KeyBuilder

CALL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5",
    "user": "ann",
    "temperature": 0.7,
    "api_key": "sk-very-secret",
    "messages": [{"role": "user", "content": "[bold]hi[/bold]\x1b[31m"}],
}


def run(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=stdin, env={"COLUMNS": "200"}, catch_exceptions=False)


@pytest.fixture
def call(tmp_path: Path) -> str:
    path = tmp_path / "call.json"
    path.write_text(json.dumps(CALL))
    return str(path)


def test_explain_shows_every_part_and_withholds_secrets(call: str) -> None:
    done = run("explain", call)
    assert done.exit_code == 0
    assert KeyBuilder().key(CALL).digest.hex() in done.output
    for part in ("model", "temperature", "messages[0]", "openai/1 user", "(secret, not shown)"):
        assert part in done.output
    assert "very-secret" not in done.output
    assert "[bold]hi[/bold]" in done.output, "no markup of ours is read out of the request"
    assert "\x1b[31m" not in done.output


def test_explain_reads_standard_input_and_prints_json_for_a_view(call: str) -> None:
    arguments = ("--json", "--tenant", "acme", "--namespace", "n", "--sample", "2")
    done = run("explain", "-", *arguments, stdin=json.dumps(CALL))
    told = json.loads(done.stdout)
    assert told["digest"] == KeyBuilder(tenant="acme", namespace="n").key(CALL, sample=2).digest.hex()
    assert {part["path"] for part in told["components"] if not part["counted"]} == {"user"}
    assert done.stdout == run("explain", call, *arguments).stdout


def test_diff_says_whether_the_keys_agree_and_where_the_requests_do_not(call: str, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**CALL, "temperature": 0.8, "user": "bob", "\x1b[2J": 1}))
    done = run("diff", call, str(other))
    assert done.exit_code == 0
    assert "two keys" in done.output
    assert "0.8" in done.output
    assert "does not count" in done.output
    assert "\x1b[2J" not in done.output
    told = json.loads(run("diff", call, str(other), "--json").stdout)
    assert told["same_key"] is False
    assert [part["path"] for part in told["differences"]] == ["temperature", "\x1b[2J", "user"]
    same = run("diff", call, "-", stdin=json.dumps({**CALL, "user": "bob"}))
    assert "one key" in same.output
    assert "no differences" in run("diff", call, call).output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[1, 2", "is not JSON: Expecting"),
        (b"\xff", "is not UTF-8"),
        (b"", "is not JSON"),
        (b"5", "holds a JSON number"),
        (b"[]", "holds a JSON array"),
        (b"null", "holds a JSON null"),
        (b"[" * 100_000, "is not JSON that can be read"),
        (b"9" * 5000, "is not JSON that can be read"),
        (b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper than 255"),
        (None, "cannot read"),
    ],
)
def test_wrong_input_says_what_was_wrong_and_exits_with_2(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    if content is not None:
        path.write_bytes(content)
    for arguments in (["explain", str(path)], ["diff", str(path), str(path)]):
        done = run(*arguments)
        assert done.exit_code == 2
        assert done.stdout == ""
        assert says in done.stderr


def test_wrong_use_exits_with_2(call: str) -> None:
    assert run("diff", "-", "-", stdin="{}").exit_code == 2
    assert run("explain").exit_code == 2
    assert run("nonsense").exit_code == 2
    assert run("explain", call, "--sample", "-1").exit_code == 2


def test_without_its_extra_the_command_line_names_it() -> None:
    program = "import sys; sys.modules['typer'] = None; from agentcache_adapters.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'agentcache[cli]'" in done.stderr


def test_the_installed_command_runs(call: str) -> None:
    command = Path(sys.executable).with_name("agentcache")
    done = subprocess.run([command, "explain", call, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kind"] == "chat"
