"""What must not be written down, taken out of requests and answers before they are keyed or stored."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agentcache_adapters.credentials import is_credential
from agentcache_core.errors import ConfigurationError
from agentcache_core.keys import EmbeddingRequest, FunctionCall, HttpRequest, ToolCall

REDACTED: Final = "[redacted]"
KEY_PATTERNS: Final = (
    r"\b(?:sk|pk|rk|xai|gsk|pplx|r8)[-_][A-Za-z0-9_\-]{16,}",  # API keys by the prefixes providers give them
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bey[A-Za-z0-9_\-]{10,}\.ey[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]+",  # JSON web tokens
    r"(?i)\bbearer [A-Za-z0-9._\-]{12,}",
)


class Redaction:
    """Takes out what looks like an API key, what `patterns` (regular expressions) match, the digests of credentials,
    and the values of headers that are named like secrets. Applying it twice changes nothing more.

    Raises `ConfigurationError` naming a pattern that is not a regular expression.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns: list[re.Pattern[str]] = []
        for pattern in (*KEY_PATTERNS, *patterns):
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as error:
                raise ConfigurationError(f"{pattern!r} is not a regular expression: {error}") from error

    def text(self, text: str) -> str:
        """A text without what must not be written down."""
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text

    def value(self, value: Any) -> Any:
        """A value of plain types with every text in it redacted."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.value(name): self.value(item) for name, item in value.items()}
            case list():
                return [self.value(item) for item in value]
            case tuple():
                return tuple(self.value(item) for item in value)
            case bytes():
                return self._bytes(value)
        return value

    def _bytes(self, value: bytes) -> bytes:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value
        redacted = self.text(text)
        return value if redacted == text else redacted.encode()

    def request(self, request: Any) -> Any:
        """A request as it is keyed and written down."""
        match request:
            case HttpRequest():
                headers = {name: self.header(name, text) for name, text in request.sorted_headers()}
                return dataclasses.replace(
                    request, url=self.text(request.url), headers=headers, body=self.value(request.body), credential=None
                )
            case EmbeddingRequest():
                parameters = self._without_credentials(self.value(dict(request.parameters)))
                return dataclasses.replace(request, input=self.value(request.input), parameters=parameters)
            case ToolCall():
                return dataclasses.replace(request, arguments=self.value(request.arguments))
            case FunctionCall():
                kwargs = self.value(dict(request.kwargs))
                return dataclasses.replace(request, args=self.value(request.args), kwargs=kwargs)
            case Mapping():
                return self._without_credentials(self.value(dict(request)))
        return self.value(request)

    def _without_credentials(self, request: dict[str, Any]) -> dict[str, Any]:
        """A transport's envelope without the digest of the credentials that were sent, and without secret headers."""
        envelope = request.get("http")
        if not isinstance(envelope, dict) or "credentials" not in envelope:
            return request
        headers = envelope.get("headers")
        if isinstance(headers, dict):
            headers = {name: self.header(name, text) for name, text in headers.items()}
        return {**request, "http": {**envelope, "headers": headers, "credentials": ""}}

    def header(self, name: str, text: str) -> str:
        """The value of a header as it is written down."""
        return REDACTED if is_credential(name) else self.text(text)
