"""Every Python example in the README and under docs/ runs as it stands.

The blocks of a page run together, top to bottom, in a fresh interpreter and an empty folder, with warnings as errors.
A block that needs something no test has says so on its fence: ```python no-run: needs an account at the provider.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_OURS = "ignore:`langchain-community` is being sunset:DeprecationWarning"
"""LlamaIndex imports that package wherever it is installed; it is, as a peer of a benchmark."""
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>\w[^\n`]*)?$")


def program_of(page: str) -> str:
    """The page's runnable Python, every line on the line number it has in the page; "" when there is none."""
    lines: list[str] = []
    info: str | None = None
    indent = 0
    for line in page.splitlines():
        fence = FENCE.match(line)
        if fence and info is None:
            info, indent = fence["info"] or "", len(fence["indent"])
            lines.append("")
        elif fence and info is not None and not fence["info"]:
            info = None
            lines.append("")
        else:
            lines.append(line[indent:] if info == "python" else "")
    return "\n".join(lines) if any(lines) else ""


def unexplained(page: str) -> list[str]:
    """Fences of Python that do not run and do not say why."""
    fences = [line.strip() for line in page.splitlines() if line.strip().startswith("```py")]
    return [fence for fence in fences if fence != "```python" and not re.match(r"```python no-run: \w{2}", fence)]


PAGES = [
    path
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if "```py" in path.read_text()
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_examples_of_a_page_run(path: Path, tmp_path: Path) -> None:
    program = program_of(path.read_text(encoding="utf-8"))
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", NOT_OURS, "page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{path.relative_to(REPOSITORY)} (line numbers are the page's):\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_examples_that_do_not_run_say_why(path: Path) -> None:
    assert unexplained(path.read_text(encoding="utf-8")) == []


def test_a_page_keeps_its_line_numbers() -> None:
    page = "# A\n\n```python\nx = 1\n```\n\n```sh\nls\n```\n\n```python no-run: needs a key\nboom()\n```\n"
    page += "```python\ny = x\n```\n"
    program = program_of(page)
    assert program.splitlines()[3] == "x = 1"
    assert program.splitlines()[14] == "y = x"
    assert "boom" not in program
    assert "ls" not in program
