"""The composition point: settings in, ASGI application out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles

from agentcache_service.areas import REPEATED, ROUTER_MODULES, SLOW_JOBS, job_functions
from agentcache_service.cacheapi.quick import QuickGet
from agentcache_service.errors import RESPONSES, install_error_shape
from agentcache_service.jobs import JobFunction, Repeated, Worker
from agentcache_service.logs import configure_logs
from agentcache_service.market import forwarding
from agentcache_service.middleware import BodyLimit, Observe, SecurityHeaders, Unbroken
from agentcache_service.policy import guards_of
from agentcache_service.service import Service, build_service
from agentcache_service.settings import Settings
from agentcache_service.web.pages import error_page

_log = structlog.get_logger("agentcache_service")

LARGE_BODIES = ("/api/cache/", "/api/v1/objects", "/api/v1/batches", "/api/assets", "/api/market/listings")


def build_app(settings: Settings | None = None, *, service: Service | None = None) -> FastAPI:
    """The application with every router, layer and background worker the settings ask for."""
    service = service or build_service(settings or Settings())
    settings = service.settings

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stops = [
            _start(flush_until, service, name="agentcache-meter"),
            _start(_warm_up, service, name="agentcache-model"),
        ]
        if settings.worker_in_process:
            stops.append(_start(work_until, service, name="agentcache-worker"))
        yield
        for stop in reversed(stops):
            stop()
        forwarding.collect(service)
        service.close()

    app = FastAPI(
        title="AgentCache", version="1", lifespan=lifespan, responses=RESPONSES, docs_url=None, redoc_url=None
    )
    app.state.service = service
    install_error_shape(app)
    app.state.error_page = error_page
    for module in ROUTER_MODULES:
        app.include_router(module.router)
    app.mount("/static", StaticFiles(packages=[("agentcache_service.web", "static")]), name="static")
    _refuse_unguarded_routes(app)
    _document_refusals(app)
    _add_layers(app, service)
    return app


def from_environment() -> FastAPI:
    """The application as the environment says: what a server with several worker processes imports."""
    settings = Settings()
    configure_logs(settings)
    return build_app(settings)


def _add_layers(app: FastAPI, service: Service) -> None:
    settings = service.settings
    large = dict.fromkeys(LARGE_BODIES, settings.max_value_bytes)
    app.add_middleware(QuickGet, service=service)
    app.add_middleware(BodyLimit, default=settings.max_json_bytes, by_prefix=large)
    app.add_middleware(Unbroken)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Content-Type", "X-API-Key", "X-Namespace", "If-Match", "If-None-Match", "Range"],
            expose_headers=["ETag", "X-Request-Id", "Content-Range"],
        )
    app.add_middleware(SecurityHeaders, is_https=settings.is_https)
    app.add_middleware(Observe, metrics=service.metrics, tells_all=settings.log_level == "debug")


def _refuse_unguarded_routes(app: FastAPI) -> None:
    bare = [route.path for route in app.routes if isinstance(route, APIRoute) and not guards_of(route)]
    if bare:
        raise RuntimeError(f"these routes have no guard (require, require_staff or public): {bare}")


def _document_refusals(app: FastAPI) -> None:
    """Make the OpenAPI document say that refusals are JSON in our shape, also where the answer itself is a page."""
    generate = app.openapi
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}

    def complete() -> dict[str, Any]:
        known = app.openapi_schema is not None
        document = generate()
        if not known:
            for operation in (item for path in document["paths"].values() for item in path.values()):
                for status in RESPONSES:
                    operation["responses"][str(status)]["content"] = shape
        return document

    app.openapi = complete  # type: ignore[method-assign]  # the way FastAPI documents


def _start(loop: Callable[[Service, threading.Event], None], service: Service, *, name: str) -> Callable[[], None]:
    """Run a loop in a thread of this process until the returned function is called."""
    stopping = threading.Event()
    thread = threading.Thread(target=loop, args=(service, stopping), name=name, daemon=True)
    thread.start()

    def stop() -> None:
        stopping.set()
        thread.join(timeout=30)

    return stop


def _warm_up(service: Service, _stopping: threading.Event) -> None:
    """Load the embedding model beside the first calls, which answer exactly until it is there."""
    try:
        service.engine.warm_up()
    except Exception as error:  # noqa: BLE001 - without it look-ups are exact, and each says why to the engine's events
        _log.error("the embedding model does not load", error=repr(error)[:500])


def flush_until(service: Service, stopping: threading.Event, *, pause: float = 0.5) -> None:
    """The meter's loop: figures reach the database, and so the dashboards, within half a second. What partners are to
    hear of this process's look-ups is written down ten times less often, for a job of any process to send."""
    for beat in itertools.count():
        if stopping.wait(pause):
            break
        try:
            service.meter.flush()
            if beat % 10 == 9:
                forwarding.collect(service)
        except Exception as error:  # noqa: BLE001 - what could not be written is kept and tried again
            _log.error("meter trouble", error=repr(error)[:500])
            stopping.wait(2)


def work_until(service: Service, stopping: threading.Event, *, pause: float = 0.5) -> None:
    """The workers' loops: repeated jobs are planted, due jobs done, troubles told and survived.

    Jobs that may be slow have a worker of their own, in a thread beside this one.
    """
    functions = job_functions(service)
    slow = {kind: function for kind, function in functions.items() if kind in SLOW_JOBS}
    quick = {kind: function for kind, function in functions.items() if kind not in SLOW_JOBS}
    beside = threading.Thread(
        target=_work, args=(service, stopping, slow, (), pause), name="agentcache-slow-worker", daemon=True
    )
    beside.start()
    _work(service, stopping, quick, REPEATED, pause)
    beside.join(timeout=25)


def _work(
    service: Service,
    stopping: threading.Event,
    functions: Mapping[str, JobFunction],
    repeated: tuple[Repeated, ...],
    pause: float,
) -> None:
    done = service.metrics.jobs
    worker = Worker(service.db, service.clock, functions, told=lambda kind, outcome: done.labels(kind, outcome).inc())
    while not stopping.is_set():
        try:
            worker.plant(repeated)
            while not stopping.is_set() and worker.run_one():
                pass
        except Exception as error:  # noqa: BLE001 - a database that is away for a while must not end the worker
            _log.error("worker trouble", error=repr(error)[:500])
            stopping.wait(5)
        stopping.wait(pause)
