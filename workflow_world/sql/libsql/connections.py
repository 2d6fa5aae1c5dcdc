"""Connections to a remote database: one for each thread that works, made when it is needed."""

from __future__ import annotations

import threading
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
    """A connection keeps its socket between transactions, and no state on the server."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._local = threading.local()
        self._lock = threading.Lock()
        self._made: list[hrana.Connection] = []

    def mine(self) -> hrana.Connection:
        """This thread's, without a transaction."""
        found: hrana.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = hrana.connect(
                self._location.base, auth_token=self._location.token, write_behind=True
            )
            self._local.connection = found
            with self._lock:
                self._made.append(found)
        found.rollback()
        return found

    def close(self) -> None:
        """When no thread works any more."""
        with self._lock:
            made, self._made = self._made, []
        for connection in made:
            connection.close()


def engine_on(location: Location) -> Engine:
    """For migrations: a connection for each use, and transactions that begin as ours do."""
    url, arguments = engine_arguments(location.base, auth_token=location.token)
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        read_only = connection.get_execution_options().get("ro")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine
