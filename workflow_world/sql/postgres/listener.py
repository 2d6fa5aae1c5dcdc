"""Other processes' notifications: LISTEN on a connection of its own, in a thread of its own.

Losing them only costs latency. After each connect everybody looks again, for nothing is known of
the time before.
"""

from __future__ import annotations

import contextlib
import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from ...errors import WorldError
from ...signals import Hub
from .connections import Connection, run_sql
from .session import ALL, topics_of

logger = logging.getLogger("workflow_world.sql")

_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_CLOSE_S: Final = 1.0
_SILENCE_S: Final = 60.0


class Listener:
    """``origin`` marks this database's own notifications, which need not be heard."""

    def __init__(self, connect: Callable[[], Connection], hub: Hub, *, origin: str) -> None:
        self._connect, self._hub, self._origin = connect, hub, origin
        self._stopped = False
        self._started: tuple[threading.Thread, socket.socket] | None = None

    def start(self, channel: str) -> None:
        waker, woken = socket.socketpair()
        thread = threading.Thread(
            target=self._listen, args=(channel, woken), name="workflow-world-listener", daemon=True
        )
        self._started = (thread, waker)
        thread.start()

    def stop(self) -> None:
        """A listener that is just connecting ends by itself a little later."""
        self._stopped = True
        started, self._started = self._started, None
        if started is not None:
            thread, waker = started
            # A byte, for a forked child may hold the socket open.
            with contextlib.suppress(OSError):
                waker.send(b"x")
            waker.close()
            thread.join(_CLOSE_S)

    def _listen(self, channel: str, woken: socket.socket) -> None:
        with woken:
            self._listen_until(channel, woken)

    def _listen_until(self, channel: str, woken: socket.socket) -> None:
        pause = _PAUSE_S
        while not self._stopped:
            since = time.monotonic()
            try:
                with contextlib.closing(self._connect()) as connection:
                    # Those that come with the answer to a statement of ours.
                    connection.add_notify_handler(lambda one: self._tell(one.payload))
                    run_sql(connection, f"LISTEN {channel}")
                    self._hub.notify_all()
                    self._hear(connection, woken)
            except (psycopg.Error, WorldError, OSError) as error:
                # The poll interval of whoever waits is still there.
                logger.debug("Notifications cannot be heard: %s", error)
            if time.monotonic() - since > _LONGEST_PAUSE_S:
                pause = _PAUSE_S
            if not self._stopped:
                _readable(pause * random.uniform(0.5, 1.5), woken)  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _hear(self, connection: Connection, woken: socket.socket) -> None:
        while not self._stopped:
            pgconn = connection.pgconn
            pgconn.consume_input()
            while (notification := pgconn.notifies()) is not None:
                self._tell(notification.extra.decode("utf-8", "replace"))
            if not _readable(_SILENCE_S, pgconn.socket, woken):
                # Raises where nobody is on the other side any more, though nobody said so.
                run_sql(connection, "SELECT 1")

    def _tell(self, payload: str) -> None:
        for topic in topics_of(payload, self._origin):
            if topic == ALL:
                self._hub.notify_all()
            else:
                self._hub.notify(topic)


def _readable(seconds: float, *sockets: socket.socket | int) -> bool:
    """Whether there is something to read in time."""
    # Not epoll, which needs a descriptor each time.
    with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        return bool(selector.select(seconds))
