"""Structured logs without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from agentcache_service.settings import Settings

_SECRET_FIELD = re.compile(r"pass(word|wd)?|token|secret|authorization|cookie|api_?key|credential|recovery|otp", re.I)
_SECRET_TEXT = re.compile(
    r"\bac_[0-9a-f]{64}\b|\bwhsec_[\w+/=]+|\bsk_(?:live|test)_\w+|(?<=Bearer )\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|\$argon2[\w$=,+/]+|[^\s@<>()\[\]{}\"'=,;:/]+@[^\s@<>()\[\]{}\"'=,;:/]+\.\w+"  # password hashes, mail addresses
    r"|(?<![\w-])[\w-]{40,}(?![\w-])"  # digests and mailed tokens
)
HIDDEN = "[hidden]"


def without_secrets(text: str) -> str:
    """A text with everything blanked that looks like a secret or a mail address."""
    return _SECRET_TEXT.sub(HIDDEN, text)


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: blanks secret fields, secrets of known form and mail addresses in any text."""
    for name, value in event.items():
        event[name] = _clean(name, value)
    return event


def _clean(name: str, value: Any) -> Any:
    if name not in {"event", "level", "timestamp"} and _SECRET_FIELD.search(name):
        return HIDDEN
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean("", inner) for inner in value]
    return value


def configure_logs(settings: Settings) -> None:
    """Set logging up for this process: JSON lines on standard error, or coloured text for people.

    What libraries log by `logging` (the server tells of broken connections so) leaves in the same form, warnings and
    worse; requests are logged by our own layer, without the addresses that a server's access log would show.
    """
    render: Any = structlog.processors.JSONRenderer()
    if settings.log_format == "text":
        render = structlog.dev.ConsoleRenderer(colors=False)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _StandardError())),
        cache_logger_on_first_use=False,
    )
    leave: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide_secrets, render]
    foreign = logging.StreamHandler(cast(TextIO, _StandardError()))
    foreign.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared[:-1], processors=leave))
    foreign.name = "agentcache"
    root = logging.getLogger()
    for known in [handler for handler in root.handlers if handler.name == foreign.name]:
        root.removeHandler(known)
    root.addHandler(foreign)
    logging.getLogger("uvicorn.access").disabled = True


class _StandardError:
    """Standard error as it is at the moment of writing: tests and servers replace the stream."""

    def write(self, text: str) -> int:
        """Write to the stream of now."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush the stream of now."""
        sys.stderr.flush()
