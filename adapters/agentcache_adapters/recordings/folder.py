"""A folder of recordings: one JSON file for each request, named after what was asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentcache_adapters.recordings.readable import answer_of, readable_answer, readable_request, request_of
from agentcache_adapters.recordings.redaction import Redaction
from agentcache_core.errors import ConfigurationError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording: the request as it was keyed, the answer, and the file that holds them."""

    request: Any
    answer: Any
    path: Path


class RecordingFolder:
    """The recordings in a folder, which need not exist before the first is written."""

    def __init__(self, path: Path, redaction: Redaction) -> None:
        self.path = path
        self._redaction = redaction

    def read(self) -> Iterator[Recorded]:
        """Every recording, in the order of the files' names. `ConfigurationError` names a file that is none."""
        for path in sorted(self.path.glob("*.json")):
            try:
                shown = json.loads(path.read_text(encoding="utf-8"))
                if shown["agentcache_recording"] != FORMAT:
                    raise ValueError(
                        f"written in format {shown['agentcache_recording']!r}; this version reads {FORMAT}"
                    )
                yield Recorded(request_of(shown["request"]), answer_of(shown["answer"]), path)
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(f"{path} is not a recording: {type(error).__name__}: {error}") from error

    def write(self, request: Any, answer: Any, *, kind: str, digest: bytes) -> Path:
        """Write one recording, redacted, over an earlier one of the same request; answers its path."""
        shown = {
            "agentcache_recording": FORMAT,
            "kind": kind,
            "request": readable_request(self._redaction.request(request)),
            "answer": self._redacted_answer(readable_answer(answer)),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{kind}-{_slug(request)}-{digest.hex()[:12]}.json"
        draft = path.with_suffix(f".{os.getpid()}.part")
        draft.write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        draft.replace(path)
        return path

    def _redacted_answer(self, shown: Any) -> Any:
        http = shown.get("http")
        if http is not None:
            pairs = [[name, self._redaction.header(name, text)] for name, text in http["headers"]]
            shown = {"http": {**http, "headers": pairs}}
        return self._redaction.value(shown)


def _slug(request: Any) -> str:
    """A few words of what was asked, for the name of a file."""
    texts = list(_texts(request))
    words = re.findall(r"[a-z0-9]+", texts[-1].lower()) if texts else []
    return "-".join(words[:8])[:60].strip("-") or "request"


def _texts(request: Any) -> Iterator[str]:
    """The texts of a request that tell it apart best, the best last."""
    if isinstance(request, str):
        yield request
    for name in ("url", "name", "input"):
        value = getattr(request, name, None)
        if isinstance(value, str):
            yield value
    if isinstance(request, dict):
        messages = request.get("messages", request.get("input"))
        for message in [messages] if isinstance(messages, str) else messages if isinstance(messages, list) else []:
            content = message.get("content") if isinstance(message, dict) else message
            for part in [content] if isinstance(content, str) else content if isinstance(content, list) else []:
                text = part.get("text") if isinstance(part, dict) else part
                if isinstance(text, str):
                    yield text
