"""`POST /api/cache/get`, the call made most: one way of answering it, and a layer that goes there without routing.

The layer takes what is in good order. Everything else, a body that is not acceptable above all, goes on to the route,
which says the same about it as about any other call; so routes, refusals and the description of the API stay in one
place. What is saved is the framework's way there, twice as long as the look-up itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentcache_service.cacheapi import calls, meaning
from agentcache_service.cacheapi.bodies import GetBody
from agentcache_service.cacheapi.door import door
from agentcache_service.cacheapi.place import Place, admit_request
from agentcache_service.errors import ServiceError, error_response

if TYPE_CHECKING:
    from agentcache_service.service import Service

PATH = "/api/cache/get"
ENTRANCE = door("cache:read")
_MISS = b'{"hit":false}'


async def answer(service: Service, body: GetBody, key: str, namespace: str | None) -> bytes:
    """The JSON of a look-up, by an API key in a namespace; raises `ServiceError` for whatever is refused."""
    if not service.reads_are_local:
        return await run_in_threadpool(_enter_and_look_up, service, body, key, namespace)
    # local reads of a tenth of a millisecond are done here: changing threads would take longer than they do
    place = ENTRANCE.enter(service, key, namespace)
    by_meaning = body.semantic is not False and meaning.least_similarity(service, place) is not None
    if service.meter.holds(place.org_id, place.now) and not by_meaning:  # an embedding takes milliseconds
        return _look_up(service, place, body)
    return await run_in_threadpool(_look_up, service, place, body)


def _enter_and_look_up(service: Service, body: GetBody, key: str, namespace: str | None) -> bytes:
    return _look_up(service, ENTRANCE.enter(service, key, namespace), body)


def _look_up(service: Service, place: Place, body: GetBody) -> bytes:
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    hit, value = calls.get(service, place, body.address, max_age=body.max_age, semantic=body.semantic)
    return _MISS if hit is None else orjson.dumps(calls.hit_body(hit, value))


@dataclass(frozen=True, slots=True)
class _Route:
    """What the layers around ask of the route that answered."""

    path: str = PATH


_ROUTE = _Route()


class QuickGet:
    """The layer. `app` gets every call but the good look-ups."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a look-up, or pass the call on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        messages, raw = await _read(receive)
        key, namespace, is_json = _named(scope)
        body = _understood(raw) if is_json and raw is not None else None
        if body is None or len(namespace or "") > 64:
            await self._app(scope, _replay(messages, receive), send)
            return
        scope["route"] = _ROUTE
        try:
            found = await answer(self._service, body, key, namespace)
        except ServiceError as refused:
            await error_response(refused)(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(found)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found})


async def _read(receive: Receive) -> tuple[list[Message], bytes | None]:
    """The messages of a body, and the body; None when the caller went away."""
    messages = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        if not message.get("more_body", False):
            return messages, b"".join(part.get("body", b"") for part in messages)


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """The messages once more, then what comes after them."""
    left = iter(messages)

    async def again() -> Message:
        for message in left:
            return message
        return await receive()

    return again


def _named(scope: Scope) -> tuple[str, str | None, bool]:
    """The API key, the namespace, and whether the body is said to be JSON. Of headers sent twice the first counts, as
    everywhere."""
    key, namespace, kind = None, None, b""
    for name, value in scope["headers"]:
        if name == b"x-api-key" and key is None:
            key = value.decode("latin-1")
        elif name == b"x-namespace" and namespace is None:
            namespace = value.decode("latin-1")
        elif name == b"content-type":
            kind = kind or value
    return key or "", namespace, kind.partition(b";")[0].strip().lower() == b"application/json"


def _understood(raw: bytes) -> GetBody | None:
    """The body, or None where the route must say what is wrong with it."""
    try:
        return GetBody.model_validate(json.loads(raw))
    except (ValidationError, ValueError, RecursionError):
        return None
