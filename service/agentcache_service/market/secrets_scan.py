"""A scan for live secrets in text: well-known keys, private keys, random values under secret names."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("private key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b")),
    ("Stripe live key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{16,}\b")),
    ("OpenAI key", re.compile(r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}\b")),
    ("Anthropic key", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{32,}\b")),
    ("Google key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b")),
    ("Replicate token", re.compile(r"\br8_[A-Za-z0-9]{30,}\b")),
    ("AgentCache key", re.compile(r"\bac_[0-9a-f]{64}\b")),
    (
        "password in an address",
        re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:[^\s/@$<{]{6,}@[^\s]+", re.IGNORECASE),
    ),
)

_ASSIGNED = re.compile(
    r"""(?i)\b[\w-]*(?:secret|token|passwd|password|api_?key|access_?key)\b["']?\s*[:=]\s*["']?([A-Za-z0-9+/_=-]{20,})"""
)
_SECRET_FILES = re.compile(
    r"(?i)(?:^|/)(?:\.env(?:\.(?!example|sample|template)[\w.-]+)?|id_(?:rsa|ed25519|ecdsa)|.*\.(?:pem|p12|pfx|key))$"
)
_LEAST_ENTROPY = 3.7


@dataclass(frozen=True, slots=True)
class Finding:
    """Where something that looks like a secret is. The secret itself is never repeated."""

    path: str
    line: int
    what: str


def scan(path: str, content: bytes) -> list[Finding]:
    """What looks like a secret in one file; binary content is looked at as Latin-1, so that patterns still match."""
    found: list[Finding] = []
    if _SECRET_FILES.search(path):
        found.append(Finding(path, 0, "a file that usually holds secrets"))
    text = content.decode("utf-8", "replace") if b"\0" not in content[:8192] else content.decode("latin-1")
    for number, line in enumerate(text.splitlines(), 1):
        what = _in_line(line[:4096])
        if what is not None:
            found.append(Finding(path, number, what))
        if len(found) >= 50:
            break
    return found


def _in_line(line: str) -> str | None:
    for what, pattern in _PATTERNS:
        if pattern.search(line):
            return what
    assigned = _ASSIGNED.search(line)
    if assigned and _entropy(assigned.group(1)) >= _LEAST_ENTROPY and not _is_word(assigned.group(1)):
        return "a long random value with a secret's name"
    return None


def _is_word(value: str) -> bool:
    """True for values that are names rather than secrets: `YOUR_API_KEY_GOES_HERE`, `some-kebab-words`."""
    return not any(char.isdigit() for char in value)


def _entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values())
