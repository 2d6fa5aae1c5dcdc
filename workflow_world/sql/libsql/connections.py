"""Connections to a remote database, made when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from ... import hrana
from ...hrana.dialect import engine_arguments
from ...hrana.location import Location

SERVER_TIME: Final = "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)"
"""Milliseconds."""


class Connections:
    """A connection keeps its socket between transactions, and no state on the server. The one used
    last is used next, so there are as many as are needed at once. ``timeout``: seconds that an
    answer may take."""

    def __init__(self, location: Location, *, timeout: float) -> None:
        self._location, self._timeout = location, timeout
        self._lock = threading.Lock()
        self._idle: list[hrana.Connection] = []

    @contextmanager
    def one(self) -> Generator[hrana.Connection]:
        """A connection without a transaction, whose last one is over when it is given back."""
        with self._lock:
            found = self._idle.pop() if self._idle else None
        if found is None:
            found = hrana.connect(
                self._location.base,
                auth_token=self._location.token,
                timeout=self._timeout,
                write_behind=True,
            )
        try:
            yield found
        except hrana.Error as error:
            if error.disconnected and error.code is None and error.http_status is None:
                # The others' sockets are as old: each might keep its next user waiting as long.
                self.close()
            raise
        finally:
            found.rollback()
            with self._lock:
                self._idle.append(found)

    def close(self) -> None:
        """Those that nobody uses now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def engine_on(location: Location) -> Engine:
    """For migrations: a connection for each use, and transactions that begin as ours do. What
    makes tables travels together: for as long as a migration takes, nobody else can write."""
    url, arguments = engine_arguments(location.base, auth_token=location.token)
    arguments["write_behind"] = True
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        read_only = connection.get_execution_options().get("ro")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
