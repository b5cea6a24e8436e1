"""Mail: rendered from templates, sealed into a job, delivered by SMTP or into a local outbox."""

from __future__ import annotations

import json
import os
import re
import secrets
import smtplib
import ssl
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy as email_policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, make_msgid
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.crypto import Vault
from agentcache_service.db import Database
from agentcache_service.files import SharedFiles
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.settings import Settings

SEND_MAIL = "mail.send"
_SEAL_PLACE = "jobs/mail"
_OUTBOX = "outbox"
_NAME = re.compile(r"[0-9T]+-[0-9a-f]+\.eml")


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("agentcache_service", "mail_templates"),
        autoescape=select_autoescape(enabled_extensions=("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def compose(template: str, context: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Subject, text and (where there is one) HTML of a mail. The first line of `<template>.txt` is the subject."""
    text = _templates().get_template(f"{template}.txt").render(context)
    subject, _, body = text.partition("\n")
    html = None
    if f"{template}.html" in _templates().list_templates():
        html = _templates().get_template(f"{template}.html").render(context)
    return " ".join(subject.split()), body.lstrip("\n"), html


def queue_mail(
    session: Session,
    clock: Clock,
    vault: Vault,
    *,
    to: str,
    template: str,
    context: Mapping[str, Any],
    org_id: str | None = None,
    dedupe_key: str | None = None,
) -> str | None:
    """Add a mail to the caller's transaction. Its content (links with tokens) is sealed while it waits."""
    subject, text, html = compose(template, context)
    content = json.dumps({"to": to, "subject": subject, "text": text, "html": html}).encode()
    payload = {"sealed": b64encode(vault.seal(content, place=_SEAL_PLACE)).decode()}
    return enqueue(session, clock, SEND_MAIL, payload, org_id=org_id, dedupe_key=dedupe_key)


class Transport(Protocol):
    """Delivers one message or raises."""

    def deliver(self, message: EmailMessage) -> None:
        """Hand the message over; an exception means it was not accepted."""


class Outbox(ABC):
    """A transport that keeps messages to be looked at instead of sending them: what the browser shows at `/outbox`."""

    @abstractmethod
    def deliver(self, message: EmailMessage) -> None:
        """Keep the message."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the messages, newest first."""

    @abstractmethod
    def read(self, name: str) -> EmailMessage | None:
        """One message, or None when there is no such name."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a message, if it is there."""

    def addressed_to(self, address: str) -> list[dict[str, str]]:
        """Subject and text of every message to an address, newest first."""
        messages = (self.read(name) for name in self.names())
        return [
            {"subject": str(message["subject"]), "text": body.get_content() if body else ""}
            for message in messages
            if message is not None and address in str(message["to"]).casefold()
            for body in (message.get_body(("plain",)),)
        ]

    def forget(self, address: str) -> int:
        """Remove every message to an address, and every one that names it; how many there were."""
        removed = 0
        for name in self.names():
            message = self.read(name)
            if message is not None and address in _all_text(message):
                self.remove(name)
                removed += 1
        return removed


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.eml"


def _parsed(raw: bytes) -> EmailMessage:
    return BytesParser(_class=EmailMessage, policy=email_policy.default).parsebytes(raw)


class LocalOutbox(Outbox):
    """A folder of `.eml` files (0600): the embedded default."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deliver(self, message: EmailMessage) -> None:
        """Write the message as a new file."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / _new_name(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(message.as_bytes(policy=email_policy.SMTP))

    def names(self) -> list[str]:
        """The file names, newest first."""
        return sorted((path.name for path in self._folder.glob("*.eml")), reverse=True)

    def read(self, name: str) -> EmailMessage | None:
        """One message, or None when there is no such file."""
        if name not in self.names():
            return None
        return _parsed((self._folder / name).read_bytes())

    def remove(self, name: str) -> None:
        """Remove a message, if it is there."""
        if name in self.names():
            (self._folder / name).unlink(missing_ok=True)


class SharedOutbox(Outbox):
    """Messages in the store that all machines share: what a worker process writes, every server shows."""

    def __init__(self, files: SharedFiles) -> None:
        self._files = files

    def deliver(self, message: EmailMessage) -> None:
        """Keep the message under a new name."""
        self._files.put(f"{_OUTBOX}/{_new_name()}", message.as_bytes(policy=email_policy.SMTP))

    def names(self) -> list[str]:
        """The names of the messages, newest first."""
        return sorted(self._files.names(_OUTBOX), reverse=True)

    def read(self, name: str) -> EmailMessage | None:
        """One message, or None when there is no such name."""
        if not _NAME.fullmatch(name):
            return None
        raw = self._files.get(f"{_OUTBOX}/{name}")
        return None if raw is None else _parsed(raw)

    def remove(self, name: str) -> None:
        """Remove a message, if it is there."""
        if _NAME.fullmatch(name):
            self._files.remove(f"{_OUTBOX}/{name}")


def _all_text(message: EmailMessage) -> str:
    parts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
    return "\n".join([*map(str, message.values()), *parts]).casefold()


@dataclass(frozen=True, slots=True)
class Smtp:
    """An SMTP server given as `smtp://`, `smtps://` or `smtp+starttls://user:password@host:port`."""

    url: str
    timeout: float = 30.0

    def __repr__(self) -> str:
        return f"Smtp({urlsplit(self.url).hostname!r})"

    def deliver(self, message: EmailMessage) -> None:
        """Send the message; raises `smtplib.SMTPException` or `OSError` when the server does not take it."""
        parts = urlsplit(self.url)
        host = parts.hostname or "localhost"
        tls = ssl.create_default_context()
        connection: smtplib.SMTP
        if parts.scheme == "smtps":
            connection = smtplib.SMTP_SSL(host, parts.port or 465, timeout=self.timeout, context=tls)
        elif parts.scheme in {"smtp", "smtp+starttls"}:
            connection = smtplib.SMTP(host, parts.port or 587, timeout=self.timeout)
        else:
            raise ValueError("smtp_url must begin with smtp://, smtps:// or smtp+starttls://")
        with connection:
            if parts.scheme == "smtp+starttls":
                connection.starttls(context=tls)
            if parts.username:
                connection.login(unquote(parts.username), unquote(parts.password or ""))
            connection.send_message(message)


def build_transport(settings: Settings, files: SharedFiles | None = None) -> Transport:
    """The transport the settings name; an outbox lies in the shared files where there are any."""
    if settings.mail_transport == "smtp":
        assert settings.smtp_url is not None
        return Smtp(settings.smtp_url.get_secret_value())
    return LocalOutbox(settings.data_dir / _OUTBOX) if files is None else SharedOutbox(files)


def forget_recipient(database: Database, vault: Vault, address: str, *, batch: int = 500) -> int:
    """Remove queued mails to an address, and the sealed content of those that were sent; how many there were.

    A sent mail's row stays where it keeps a mail from being sent twice.
    """
    last, found = "", 0
    while True:
        with database.write() as session:
            query = select(Job).where(Job.kind == SEND_MAIL, Job.id > last).order_by(Job.id).limit(batch)
            rows = list(session.scalars(query))
            for row in rows:
                if "sealed" in row.payload and _recipient(vault, row.payload["sealed"]) == address:
                    found += 1
                    row.payload, row.last_error = {}, None
                    if row.state == "queued":
                        row.state = "done"
        if len(rows) < batch:
            return found
        last = rows[-1].id


def waiting_for(session: Session, vault: Vault, address: str) -> list[dict[str, str]]:
    """The mails to an address that wait to be sent: subject and text."""
    queued = session.scalars(select(Job).where(Job.kind == SEND_MAIL, Job.state != "done"))
    contents = (_unsealed(vault, row.payload["sealed"]) for row in queued if "sealed" in row.payload)
    return [
        {"subject": content["subject"], "text": content["text"]} for content in contents if content["to"] == address
    ]


def _recipient(vault: Vault, sealed: str) -> str:
    return str(_unsealed(vault, sealed)["to"])


def _unsealed(vault: Vault, sealed: str) -> dict[str, Any]:
    return dict(json.loads(vault.open(b64decode(sealed), place=_SEAL_PLACE)))


class SendMail:
    """The job that delivers one queued mail. Its sealed content goes with the delivery."""

    forgets = True

    def __init__(self, transport: Transport, vault: Vault, *, sender: str) -> None:
        self._transport = transport
        self._vault = vault
        self._sender = sender

    def __call__(self, claim: Claim) -> None:
        """Unseal, build and deliver. The job's id is the Message-ID, so a repeated delivery can be recognised."""
        if "sealed" not in claim.payload:
            return  # the recipient was erased while the mail waited
        content = _unsealed(self._vault, claim.payload["sealed"])
        message = EmailMessage(policy=email_policy.SMTP)
        message["From"] = self._sender
        message["To"] = content["to"]
        message["Subject"] = content["subject"]
        message["Date"] = format_datetime(claim.run_at)
        message["Message-ID"] = make_msgid(idstring=claim.id, domain="agentcache.invalid")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(content["text"])
        if content["html"]:
            message.add_alternative(content["html"], subtype="html")
        self._transport.deliver(message)
