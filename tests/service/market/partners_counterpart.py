"""Strict local counterparts of the partners, written from their public references."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


@dataclass
class Partners:
    """What the counterparts know and were asked; tests change it to make trouble."""

    address: str = ""
    client_id: str = "agentcache-client"
    client_secret: str = "client-secret"
    redirect: str = "http://testserver/api/integrations/replicate/callback"
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    token_answer: Callable[[], tuple[int, str, bytes]] | None = None
    down: bool = False
    predictions: list[dict[str, Any]] = field(default_factory=list)
    chats: list[dict[str, Any]] = field(default_factory=list)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    redis: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def authorize(self, address: str) -> dict[str, str]:
        """What a browser brings back from the authorization page, after the strict checks of OAuth 2.1."""
        parts = urlsplit(address)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        assert parts.path == "/oauth/authorize"
        assert query["client_id"] == self.client_id
        assert query["redirect_uri"] == self.redirect, "an unregistered redirect address"
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert len(query["code_challenge"]) == 43
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return {"code": code, "state": query["state"], "iss": self.address}


Answer = tuple[int, Any]


class Refused(Exception):
    """An answer that is not a 200."""

    def __init__(self, status: int, body: Any = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body if body is not None else {"detail": "refused"}


def _handler(state: Partners) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, *args: object) -> None:
            pass

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = urlsplit(self.path).path
            state.asked.append((self.command, path))
            if state.down:
                self._answer(503, "text/html", b"<h1>down</h1>")
                return
            if path == "/oauth/authorize":
                self.send_response(302)
                self.send_header("location", f"{state.redirect}?{urlencode(state.authorize(self.path))}")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            if path == "/welcome":
                self._answer(200, "text/plain", b"welcome")
                return
            if path == "/oauth/token" and state.token_answer is not None:
                self._answer(*state.token_answer())
                return
            try:
                status, body = 200, self._route(self.command, path, raw)
                if isinstance(body, tuple):
                    status, body = body
            except Refused as refused:
                status, body = refused.status, refused.body
            self._answer(status, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _route(self, method: str, path: str, raw: bytes) -> Any:
            match method, path.strip("/").split("/"):
                case "POST", ["oauth", "token"]:
                    return self._token(raw)
                case "POST", ["oauth", "revoke"]:
                    self._client()
                    form = self._form(raw)
                    state.tokens.discard(form["token"])
                    state.refresh.discard(form["token"])
                    return {}
                case "GET", ["replicate", "v1", "account"]:
                    self._bearer(state.tokens)
                    return {"type": "user", "username": "ada"}
                case "POST", ["replicate", "v1", "predictions"]:
                    self._bearer(state.tokens)
                    return self._predict(raw)
                case "GET", ["helicone", "v1", "key", "check"]:
                    self._bearer({"sk-helicone-good"})
                    return {"organization": "Acme"}
                case "POST", ["helicone", "custom", "v1", "log", "batch"]:
                    self._bearer({"sk-helicone-good"})
                    return self._batch(raw)
                case "GET", ["together", "v1", "models"]:
                    self._bearer({"tgp-good"})
                    return [{"id": "meta-llama/Llama-3-8b-chat-hf"}]
                case "POST", ["together", "v1", "chat", "completions"]:
                    self._bearer({"tgp-good"})
                    return self._chat(raw)
                case "GET", ["modal", "healthz"]:
                    self._modal()
                    return {"workspace": "acme"}
                case _, ["modal", "jobs", *rest]:
                    self._modal()
                    return self._job(method, rest, raw)
                case "GET", ["runpod", "v2", "ep1", "health"]:
                    self._bearer({"rpa_good"})
                    return {"workers": {"idle": 1}}
                case _, ["runpod", "v2", "ep1", verb, *rest]:
                    self._bearer({"rpa_good"})
                    return self._runpod(method, verb, rest, raw)
                case "POST", ["upstash"]:
                    self._bearer({"upstash-token"})
                    return self._command(json.loads(raw))
                case _:
                    raise Refused(404)

        def _bearer(self, known: set[str]) -> str:
            kind, _, token = self.headers.get("authorization", "").partition(" ")
            if kind != "Bearer" or token not in known:
                raise Refused(401)
            return token

        def _form(self, raw: bytes) -> dict[str, str]:
            if self.headers.get("content-type") != "application/x-www-form-urlencoded":
                raise Refused(415)
            return {name: values[-1] for name, values in parse_qs(raw.decode(), strict_parsing=True).items()}

        def _client(self) -> None:
            pair = base64.b64encode(f"{state.client_id}:{state.client_secret}".encode()).decode()
            if self.headers.get("authorization") != f"Basic {pair}":
                raise Refused(401, {"error": "invalid_client"})

        def _token(self, raw: bytes) -> dict[str, Any]:
            self._client()
            form = self._form(raw)
            if form["grant_type"] == "refresh_token":
                if form["refresh_token"] not in state.refresh:
                    raise Refused(400, {"error": "invalid_grant"})
                state.refresh.discard(form["refresh_token"])
                return self._issue()
            known = state.codes.pop(form.get("code", ""), None)
            verifier = form.get("code_verifier", "")
            digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
            if known is None or known["code_challenge"] != digest or form["redirect_uri"] != known["redirect_uri"]:
                raise Refused(400, {"error": "invalid_grant"})
            return self._issue()

        def _issue(self) -> dict[str, Any]:
            number = len(state.asked)
            state.tokens.add(f"r8-access-{number}")
            state.refresh.add(f"r8-refresh-{number}")
            return {
                "access_token": f"r8-access-{number}",
                "refresh_token": f"r8-refresh-{number}",
                "token_type": "Bearer",
                "expires_in": 3600,
            }

        def _predict(self, raw: bytes) -> Any:
            body = json.loads(raw)
            if set(body) != {"version", "input"} or not self.headers.get("prefer", "").startswith("wait"):
                raise Refused(422, {"detail": "version and input are required"})
            state.predictions.append(body)
            number = len(state.predictions)
            return 201, {
                "id": f"p{number}",
                "status": "succeeded",
                "output": [f"https://replicate.delivery/{number}.png"],
                "metrics": {"predict_time": 4.0},
            }

        def _chat(self, raw: bytes) -> Any:
            body = json.loads(raw)
            state.chats.append(body)
            message = {"role": "assistant", "content": f"answer {len(state.chats)}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            usage = {"prompt_tokens": 200, "completion_tokens": 300, "total_tokens": 500}
            return {
                "id": f"chatcmpl-{len(state.chats)}",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
            }

        def _batch(self, raw: bytes) -> Any:
            body = json.loads(raw)
            if len(body["events"]) > 50 or not self.headers.get("idempotency-key"):
                raise Refused(422)
            state.batches.setdefault(body["batch_id"], body)
            return {"accepted": len(body["events"])}

        def _modal(self) -> None:
            if (self.headers.get("modal-key"), self.headers.get("modal-secret")) != ("ak-1", "as-1"):
                raise Refused(401)

        def _job(self, method: str, rest: list[str], raw: bytes) -> Any:
            if method == "POST" and not rest:
                body = json.loads(raw)
                if body["action"] not in {"warm", "invalidate"}:
                    raise Refused(422)
                made = {"id": f"fc-{body['id'][-6:]}", "status": "running", "log": ["started"], "seconds": 0}
                return state.jobs.setdefault(made["id"], made)
            job = state.jobs.get(rest[0])
            if job is None:
                raise Refused(404)
            if rest[1:] == ["cancel"]:
                job["status"] = "canceled"
            elif job["status"] == "running":
                job.update(status="succeeded", seconds=100, log=["started", "warmed 12 entries"], output={"warmed": 12})
            return job

        def _runpod(self, method: str, verb: str, rest: list[str], raw: bytes) -> Any:
            if (method, verb) == ("POST", "run"):
                if "input" not in json.loads(raw):
                    raise Refused(400)
                name = f"rp-{len(state.jobs)}"
                state.jobs[name] = {"id": name, "status": "IN_QUEUE"}
                return state.jobs[name]
            job = state.jobs.get(rest[0]) if rest else None
            if job is None:
                raise Refused(404)
            if (method, verb) == ("POST", "cancel"):
                job["status"] = "CANCELLED"
            elif (method, verb) == ("GET", "status"):
                job.update(status="COMPLETED", executionTime=2000, output={"text": "done"})
            else:
                raise Refused(405)
            return job

        def _command(self, command: list[str]) -> Any:
            match [part if n else part.upper() for n, part in enumerate(command)]:
                case ["PING"]:
                    return {"result": "PONG"}
                case ["SET", key, value]:
                    state.redis[key] = value
                    return {"result": "OK"}
                case ["GET", key]:
                    return {"result": state.redis.get(key)}
                case _:
                    raise Refused(400, {"error": "ERR unknown command"})

    return Handler


def serve(state: Partners) -> Callable[[], None]:
    """Start the counterparts on loopback; the function returned stops them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def partner_files(state: Partners) -> dict[str, str]:
    """Partner files that point at the counterparts instead of the real partners."""
    base = state.address
    files = {slug: f'[api]\nbase = "{base}/{slug}"\n' for slug in ("replicate", "helicone", "together", "runpod")}
    oauth = (("issuer", ""), ("authorize", "/oauth/authorize"), ("token", "/oauth/token"), ("revoke", "/oauth/revoke"))
    files["replicate"] += "[connect]\n" + "".join(f'{name} = "{base}{path}"\n' for name, path in oauth)
    return files


__all__ = ["Partners", "partner_files", "serve"]
