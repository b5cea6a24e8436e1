"""A server that speaks OpenAI's wire format on 127.0.0.1 and takes as long as a real model does.

`POST /v1/chat/completions` (also streamed) and `POST /v1/embeddings`. Every `busy_every`-th request is refused with
503, as providers do under load. `calls` counts the requests that were answered.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

from support_desk.model import embedding, next_message


class StandIn:
    """The running server, as a context manager; `url` is its base URL, to be used where a client takes one.

    `first_token_seconds` and `seconds_per_token` make up the time an answer takes (0 in tests).
    """

    def __init__(
        self, *, first_token_seconds: float = 0.35, seconds_per_token: float = 0.006, busy_every: int = 0
    ) -> None:
        self.first_token_seconds = first_token_seconds
        self.seconds_per_token = seconds_per_token
        self.busy_every = busy_every
        self.calls = 0
        self.refused = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Conversation)
        self._server.daemon_threads = True
        cast(Any, self._server).stand_in = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def admit(self) -> bool:
        """Count one request; False when it is to be refused as busy."""
        with self._lock:
            if self.busy_every and (self.calls + self.refused + 1) % self.busy_every == 0:
                self.refused += 1
                return False
            self.calls += 1
            return True


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    @property
    def stand_in(self) -> StandIn:
        return cast(StandIn, cast(Any, self.server).stand_in)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the demonstration's output to the demonstration."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if not self.stand_in.admit():
            self._send(503, {"error": {"message": "The model is overloaded.", "type": "server_error"}})
        elif self.path.endswith("/embeddings"):
            self._send(200, _embeddings(body))
        elif self.path.endswith("/chat/completions"):
            self._complete(body)
        else:
            self._send(404, {"error": {"message": f"no such path: {self.path}", "type": "invalid_request_error"}})

    def _complete(self, body: dict[str, Any]) -> None:
        message = next_message(body["messages"])
        usage = _usage(body, message)
        time.sleep(self.stand_in.first_token_seconds)
        if body.get("stream"):
            self._stream(body, message, usage)
            return
        time.sleep(self.stand_in.seconds_per_token * usage["completion_tokens"])
        self._send(200, _completion(body, message, usage))

    def _stream(self, body: dict[str, Any], message: dict[str, Any], usage: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for chunk in _chunks(body, message, usage):
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()
            time.sleep(self.stand_in.seconds_per_token)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _send(self, status: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def _usage(body: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Token counts by the usual rule of thumb, four characters a token; nothing is cached on the provider's side."""
    prompt = len(json.dumps(body["messages"])) + len(json.dumps(body.get("tools", [])))
    answer = len(json.dumps(message))
    counts = {"prompt_tokens": prompt // 4, "completion_tokens": answer // 4}
    return {**counts, "total_tokens": sum(counts.values()), "prompt_tokens_details": {"cached_tokens": 0}}


def _completion(body: dict[str, Any], message: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": f"chatcmpl-{time.time_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": {**message, "refusal": None}, "finish_reason": finish}],
        "usage": usage,
    }


def _chunks(body: dict[str, Any], message: dict[str, Any], usage: dict[str, Any]) -> list[dict[str, Any]]:
    frame = {"id": f"chatcmpl-{time.time_ns()}", "object": "chat.completion.chunk", "created": int(time.time())}
    frame["model"] = body["model"]
    words = (message["content"] or "").split(" ")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**frame, "choices": [], "usage": usage})
    return chunks


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    rows = [{"object": "embedding", "index": i, "embedding": embedding(text)} for i, text in enumerate(texts)]
    tokens = sum(len(text) for text in texts) // 4
    return {
        "object": "list",
        "data": rows,
        "model": body["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
