"""A loopback HTTP proxy in front of a real server, with faults that a real server cannot give."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias

Fault: TypeAlias = Literal[
    "pass",  # nothing is wrong
    "cut",  # the request is thrown away, the socket closed
    "lose",  # the server acts, its answer is thrown away, the socket closed
    "truncate",  # the server acts, half of its answer arrives
    "hang",  # the server acts, no answer arrives while the proxy lives
    "html",  # the server acts, the answer is a web page
    "undone",  # the server acts, answers, and then rolls back without telling
    "garbage",  # the server acts, the answer is JSON, but not Hrana
    "status 401",
    "status 404",
    "status 408",
    "status 413",
    "status 429",
    "status 502",
    "status 308",
]


_ENDS = {"RELEASE one", "COMMIT"}


class Proxy:
    """``faults`` are used up, one for each request; then everything passes.

    ``lone_commits`` are those of requests that write nothing before they commit.
    ``bodies``, ``headers`` and ``clients`` (their ports) are of the requests seen; ``base_url``
    is put into answers; ``delay`` is in seconds.
    """

    def __init__(self, host: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.faults: deque[Fault] = deque()
        self.lone_commits: deque[Fault] = deque()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.clients: list[int] = []
        self.base_url: str | None = None
        self.delay = 0.0
        self.ended = threading.Event()
        self._host = host
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.cut_all()
        self._server.server_close()
        self._thread.join()

    def sent(self) -> list[list[str]]:
        """The SQL of each request."""
        return [
            [
                step["stmt"]["sql"]
                for request in body["requests"]
                if request["type"] == "batch"
                for step in request["batch"]["steps"]
            ]
            for body in self.bodies
        ]

    def forward(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            data, kind = answer.read(), answer.headers.get("content-type", "")
        finally:
            connection.close()
        if self.base_url is not None and answer.status == 200:
            data = json.dumps({**json.loads(data), "base_url": self.base_url}).encode()
        return answer.status, kind, data


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sockets: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._sockets.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for one in list(self._sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else each answer waits for an acknowledgement
    server: _Server

    def do_POST(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers["content-length"]))
        proxy.bodies.append(json.loads(body))
        proxy.clients.append(self.client_address[1])
        proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
        is_lone = bool(proxy.lone_commits) and {"COMMIT"} <= {*proxy.sent()[-1]} <= _ENDS
        faults = proxy.lone_commits if is_lone else proxy.faults
        fault = faults.popleft() if faults else "pass"
        if proxy.delay:
            time.sleep(proxy.delay)
        if fault == "cut":
            self._hang_up()
        elif fault.startswith("status "):
            text = b"<html>Bad gateway</html>" if fault == "status 502" else b"no"
            self._answer(int(fault[7:]), "text/html" if b"html" in text else "text/plain", text)
        else:
            self._forward(fault, body)

    def _forward(self, fault: Fault, body: bytes) -> None:
        proxy = self.server.proxy
        if fault == "undone":
            request = json.loads(body)
            request["requests"].append({"type": "execute", "stmt": {"sql": "ROLLBACK"}})
            body = json.dumps(request).encode()
        kept = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in ("content-type", "authorization")
        }
        status, kind, data = proxy.forward(self.path, body, kept)
        if fault == "undone":
            data = json.dumps(
                {**json.loads(data), "results": json.loads(data)["results"][:-1]}
            ).encode()
        if fault == "lose":
            self._hang_up()
        elif fault == "hang":
            proxy.ended.wait()
            self._hang_up()
        elif fault == "truncate":
            self._answer(status, kind, data, cut=len(data) // 2)
            self._hang_up()
        elif fault == "html":
            self._answer(200, "text/html; charset=utf-8", b"<html>Please log in</html>")
        elif fault == "garbage":
            self._answer(200, "application/json", b'{"results": [{"type": "ok"}]}')
        else:
            self._answer(status, kind, data)

    def _answer(self, status: int, kind: str, data: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        if status == 308:
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:cut])
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests say what they need to."""
