"""Stands between a client and a store, and lets the store fail."""

import http.client
import http.server
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

Answer = Callable[[str, str], int]
"""(method, path) -> 0 to pass the request on, a status to answer with, or -1 to hang up"""


class Proxy:
    """An HTTP server that passes requests on, unless `answer` says otherwise."""

    def __init__(self, url: str) -> None:
        self.answer: Answer = passes
        self.requests: list[tuple[str, str]] = []
        self._target = urllib.parse.urlsplit(url)
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def handle(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Pass a request on, or do not."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.command, request.path))
        status = self.answer(request.command, request.path)
        if status < 0:
            request.close_connection = True
        elif status:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
        else:
            self._pass_on(request, body)

    def _pass_on(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        store = http.client.HTTPConnection(self._target.netloc, timeout=60)
        # The signature is over the host, so that this one must stay as it is.
        store.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            if name.lower() not in ("connection", "expect"):
                store.putheader(name, value)
        store.putheader("Connection", "close")
        store.endheaders(body)
        response = store.getresponse()
        data = response.read()
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                request.send_header(name, value)
        is_head = request.command == "HEAD"
        length = response.getheader("Content-Length") if is_head else str(len(data))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        request.wfile.write(data)
        store.close()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


def passes(method: str, path: str) -> int:
    """All is well."""
    return 0


def fails_for(seconds: float, status: int) -> Answer:
    """From the first request on, for a while."""
    first: list[float] = []

    def answer(method: str, path: str) -> int:
        first.append(time.monotonic())
        return status if time.monotonic() < first[0] + seconds else 0

    return answer


def stalls_once(seconds: float) -> Answer:
    """The first request takes that long."""
    seen: list[str] = []

    def answer(method: str, path: str) -> int:
        seen.append(path)
        if len(seen) == 1:
            time.sleep(seconds)
        return 0

    return answer
