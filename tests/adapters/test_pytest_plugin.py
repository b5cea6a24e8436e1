"""The pytest plugin: record once, replay without a network, fail with the difference, report what is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = '''
import asyncio, urllib.request
import pytest
asked = []

def model(request):
    """Stands for a model somewhere on the network."""
    asked.append(request)
    return {"role": "assistant", "content": "hello " + request["messages"][-1]["content"]}

def ask(cache, name, **options):
    request = {"model": "gpt-5", "temperature": 0, "messages": [{"role": "user", "content": name}], **options}
    return cache.get_or_compute(request, lambda: model(request))["content"]

def test_greeting(agentcache):
    assert ask(agentcache, "Ada") == "hello Ada"

def test_greeting_again(agentcache):
    assert ask(agentcache, "Ada") == "hello Ada"
    assert ask(agentcache, "Grace") == "hello Grace"

def test_awaited(agentcache):
    async def go():
        request = {"model": "m", "messages": []}
        return await agentcache.aio.get_or_compute(request, lambda: (asked.append(1), "awaited")[1])
    assert asyncio.run(go()) == "awaited"

def teardown_module():
    print("ASKED", len(asked))
'''


class Project:
    """A project with tests that use the plugin, each run in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text(
            "[pytest]\nagentcache_dir = recordings\nagentcache_redact =\n    hush-\\w+\n"
        )
        self.write(TESTS)

    def write(self, tests: str) -> None:
        (self.folder / "test_agent.py").write_text(tests)

    def run(self, *arguments: str, by_entry_point: bool = False) -> tuple[int, str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            "-s",
            "--basetemp",
            str(self.folder / "tmp"),
        ]
        environment = {**os.environ}
        if not by_entry_point:  # other people's plugins take seconds to load
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            command += ["-p", "agentcache_adapters.pytest_plugin"]
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
            timeout=170,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "recordings").glob("*"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_what_is_recorded_once_is_replayed_without_asking(project: Project) -> None:
    code, output = project.run("--agentcache=record")
    assert code == 0, output
    assert "ASKED 3" in output
    assert "agentcache: recorded" in output
    assert [name.rsplit("-", 1)[0] for name in project.files] == ["chat-ada", "chat-grace", "chat-request"]
    shown = json.loads((project.folder / "recordings" / project.files[0]).read_text())
    assert shown["request"]["messages"][0]["content"] == "Ada"
    assert shown["answer"]["value"]["content"] == "hello Ada"
    code, output = project.run()
    assert code == 0, output
    assert "ASKED 0" in output
    code, output = project.run("--agentcache=record")
    assert "ASKED 0" in output


def test_a_request_that_is_not_recorded_fails_with_its_difference(project: Project) -> None:
    project.run("--agentcache=record")
    project.write(TESTS.replace('"temperature": 0', '"temperature": 0.7'))
    code, output = project.run()
    assert code == 1
    assert "a request is not recorded" in output
    assert "temperature: 0 -> 0.7" in output


def test_a_miss_fails_the_test_even_when_the_agent_swallows_it(project: Project) -> None:
    brave = "def test_brave(agentcache):\n    try:\n        ask(agentcache, 'E')\n    except Exception:\n        pass\n"
    project.write(f"{TESTS}\n{brave}")
    code, output = project.run("-k", "brave")
    assert code == 1
    assert "a request is not recorded" in output
    assert "holds no recording" in output


def test_recordings_that_no_test_asks_for_are_reported(project: Project) -> None:
    project.run("--agentcache=record")
    _, output = project.run("-k", "test_greeting and not again")
    unused = output.partition("recordings no test of this run asked for")[2]
    assert "chat-grace" in unused
    assert "chat-ada" not in unused


def test_refresh_asks_anew_and_writes_over(project: Project) -> None:
    project.run("--agentcache=record")
    before = project.files
    project.write(TESTS.replace('"hello "', '"welcome "').replace('== "hello ', '== "welcome '))
    code, output = project.run("--agentcache=refresh")
    assert code == 0, output
    assert project.files == before
    assert "welcome Ada" in (project.folder / "recordings" / before[0]).read_text()
    assert project.run()[0] == 0


def test_off_asks_and_records_nothing(project: Project) -> None:
    code, output = project.run("--agentcache=off")
    assert code == 0, output
    assert "ASKED 4" in output
    assert project.files == []


def test_patterns_of_the_settings_reach_no_file_and_still_replay(project: Project) -> None:
    project.write(TESTS.replace('"Ada"', '"Ada hush-abc"').replace("hello Ada", "hello Ada hush-abc"))
    assert project.run("--agentcache=record")[0] == 0
    assert not any("hush-abc" in path.read_text() for path in (project.folder / "recordings").iterdir())
    code, output = project.run("-k", "awaited")
    assert code == 0, output


def test_workers_of_xdist_report_together(project: Project) -> None:
    code, output = project.run("--agentcache=record", "-p", "xdist", "-n", "2")
    assert code == 0, output
    assert len(project.files) == 3
    code, output = project.run("-p", "xdist", "-n", "2")
    assert code == 0, output
    assert "asked for" not in output


def test_a_project_that_does_not_use_it_loads_nothing_of_the_engine(project: Project) -> None:
    project.write("import sys\ndef test_nothing():\n    assert 'agentcache_core' not in sys.modules\n")
    code, output = project.run("--agentcache=replay", by_entry_point=True)
    assert code == 0, output
