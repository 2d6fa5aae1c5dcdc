"""A TCP proxy in front of a server that loses connections where a test wants it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, Self

Cut = Literal["before", "after", "reset", "late"]
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        # Says nothing to the other side; a thread that waits for it would keep it open.
        one.shutdown(socket.SHUT_RD)
    one.close()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class Proxy:
    """Forwards bytes. ``cut`` loses the connection of the next COMMIT: before the server has it,
    or after the server has answered; or it is reset once the server has been sent it, whatever
    becomes of it there. When it is ``late``, nothing is lost, but its answer waits for ``release``.

    Attributes:
        commit: how a COMMIT, or whatever else is to be lost, is recognised.
        delay_s: how long all that goes to the server waits here first.
        unheard: how many half-open connections something was sent through.
        late: a late answer is here.
    """

    def __init__(self, port: int, *, commit: bytes = b"COMMIT\0") -> None:
        self._port, self.commit = port, commit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._cuts: list[Cut] = []
        self.connections = 0
        self.delay_s = 0.0
        self.unheard = 0
        self.late, self.release = threading.Event(), threading.Event()
        self._deaf: list[threading.Event] = []
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self, when: Cut, times: int = 1) -> None:
        with self._lock:
            self._cuts.extend([when] * times)

    @property
    def pending(self) -> int:
        return len(self._cuts)

    def turn_to(self, port: int) -> None:
        """Connections that are made from now on are another server's."""
        self._port = port

    def cut_all(self) -> None:
        """Every connection that is open now ends."""
        for one in self._those_open():
            _shut(one)

    def reset_all(self) -> None:
        """Every connection that is open now is reset: who uses it next gets an error."""
        for one in self._those_open():
            _reset(one)

    def half_open(self) -> None:
        """The connections that are open now stay so, but nothing goes through them any more."""
        for one in list(self._deaf):
            one.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release.set()
        _shut(self._listener)
        self.cut_all()
        for thread in list(self._threads):
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                _shut(client)  # the server is away
                continue
            self.connections += 1
            for one in (client, server):
                # What comes in two parts must not wait for an acknowledgement in between.
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answered, deaf, late = threading.Event(), threading.Event(), threading.Event()
            self._deaf.append(deaf)
            with self._lock:
                self._open |= {client, server}
            for target, arguments in (
                (self._to_server, (client, server, answered, deaf, late)),
                (self._to_client, (client, server, answered, deaf, late)),
            ):
                thread = threading.Thread(target=target, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _to_server(
        self,
        client: socket.socket,
        server: socket.socket,
        lost: threading.Event,
        deaf: threading.Event,
        late: threading.Event,
    ) -> None:
        unheard = False
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if deaf.is_set():
                    self.unheard += not unheard
                    unheard = True
                    continue
                time.sleep(self.delay_s)
                cut = self._take() if self.commit in data else None
                if cut == "before":
                    break
                if cut == "after":
                    lost.set()
                elif cut == "late":
                    late.set()
                elif cut == "reset":
                    deaf.set()  # the answer may be quicker
                server.sendall(data)
                if cut == "reset":
                    self._end(client, server, how=_reset)
                    return
        if not lost.is_set():
            self._end(client, server)

    def _to_client(
        self,
        client: socket.socket,
        server: socket.socket,
        lost: threading.Event,
        deaf: threading.Event,
        late: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if deaf.is_set():
                    continue
                if late.is_set():
                    late.clear()
                    self.late.set()
                    self.release.wait()
                if lost.is_set():
                    break  # the answer to COMMIT came, and goes no further
                client.sendall(data)
        self._end(client, server)

    def _take(self) -> Cut | None:
        with self._lock:
            return self._cuts.pop(0) if self._cuts else None

    def _those_open(self) -> list[socket.socket]:
        with self._lock:
            return list(self._open)

    def _end(self, *sockets: socket.socket, how: Callable[[socket.socket], None] = _shut) -> None:
        with self._lock:
            self._open -= set(sockets)
        for one in sockets:
            how(one)
