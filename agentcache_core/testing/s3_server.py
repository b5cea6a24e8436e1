"""The S3 server of `moto`, one request at a time: `python -m agentcache_core.testing.s3_server PORT`.

moto looks, compares and replaces in several steps. With requests side by side two conditional writes may both win, and
a reader may meet an object that is being replaced and gets an error; a real S3 does neither.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def one_at_a_time(application: Application) -> Application:
    """A WSGI application that answers each request completely before it looks at the next."""
    lock = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            return [b"".join(application(environ, start_response))]

    return answer


def main(port: int) -> None:
    """Serve S3 on a port of 127.0.0.1 until the process ends."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    application: Any = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(int(sys.argv[1]))
