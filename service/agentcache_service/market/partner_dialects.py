"""How each compute partner is spoken to: starting, watching and stopping a job.

Modal runs a web endpoint that the customer deployed: `POST /jobs`, `GET /jobs/{id}`, `POST /jobs/{id}/cancel`, with
the token pair in the headers Modal's proxy authentication asks for. RunPod has its own serverless API: `/run`,
`/status/{id}`, `/cancel/{id}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentcache_service.errors import Unprocessable
from agentcache_service.service import Service

from .connections import Credential
from .integration_tables import PartnerJob
from .partner_catalog import Partner
from .partner_checks import PartnerFailed, ask, parsed, proxy_headers

_STATES = {
    "IN_QUEUE": "running",
    "IN_PROGRESS": "running",
    "COMPLETED": "succeeded",
    "FAILED": "failed",
    "CANCELLED": "canceled",
    "TIMED_OUT": "failed",
    "queued": "running",
    "running": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "canceled",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; `seconds` is what the partner says it ran, for its cost."""

    state: str
    remote_id: str | None = None
    seconds: float = 0.0
    log: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


def start(service: Service, partner: Partner, credential: Credential, job: PartnerJob) -> Progress:
    """Start a job at the partner. Its id goes along, so that a partner that keeps ids starts it once."""
    base, headers, bearer = _place(partner, credential)
    if partner.dialect == "runpod":
        body: dict[str, Any] = {"input": job.given.get("input", job.given)}
        path = "/run"
    else:
        body, path = {"id": job.id, "action": job.action, "input": job.given}, "/jobs"
    return _progress(partner, ask(service, "POST", base + path, bearer=bearer, body=body, headers=headers))


def look(service: Service, partner: Partner, credential: Credential, remote_id: str) -> Progress:
    """Ask how a job is."""
    base, headers, bearer = _place(partner, credential)
    name = _segment(remote_id)
    path = f"/status/{name}" if partner.dialect == "runpod" else f"/jobs/{name}"
    return _progress(partner, ask(service, "GET", base + path, bearer=bearer, headers=headers))


def stop(service: Service, partner: Partner, credential: Credential, remote_id: str) -> None:
    """Stop a job at the partner."""
    base, headers, bearer = _place(partner, credential)
    name = _segment(remote_id)
    path = f"/cancel/{name}" if partner.dialect == "runpod" else f"/jobs/{name}/cancel"
    parsed(ask(service, "POST", base + path, bearer=bearer, body={}, headers=headers), partner.name)


def _place(partner: Partner, credential: Credential) -> tuple[str, dict[str, str], str]:
    fields = credential.fields
    if partner.dialect == "runpod":
        return f"{partner.api_base}/v2/{_segment(fields['endpoint_id'])}", {}, fields["api_key"]
    return fields["url"].rstrip("/"), proxy_headers(fields), ""


def _progress(partner: Partner, got: Any) -> Progress:
    answer = parsed(got, partner.name)
    if not isinstance(answer, Mapping):
        raise PartnerFailed(f"{partner.name} did not answer with a job.")
    state = _STATES.get(str(answer.get("status", "")))
    if state is None:
        raise PartnerFailed(f"{partner.name} answered with an unknown status.")
    seconds = answer.get("seconds", 0)
    if partner.dialect == "runpod":
        seconds = (answer.get("executionTime") or 0) / 1000
    output = answer.get("output")
    lines = answer.get("log") or ()
    return Progress(
        state,
        remote_id=str(answer["id"]) if answer.get("id") else None,
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        log=tuple(str(line) for line in lines)[:100] if isinstance(lines, list) else (),
        result={"output": output} if output is not None else {},
    )


def _segment(text: str) -> str:
    if not text or any(char in text for char in "/?#\\ ") or ".." in text:
        raise Unprocessable("The partner's id cannot be part of an address.")
    return text
