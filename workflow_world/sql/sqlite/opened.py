"""The connections that one process has open on a database, and the file that they are on."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import cast

from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from ...errors import BackendError
from ...forks import leave_alone
from .locations import Location, identity


class Opened:
    """Connections that only ``close`` and ``drop`` end."""

    def __init__(self, engine: Engine, location: Location) -> None:
        self._engine, self._path = engine, location.path
        self._file: tuple[int, int] | None = None
        self._connections: list[PoolProxiedConnection] = []

    def settle_on_file(self) -> None:
        """From now on the file is that which is at its place."""
        if self._path is not None:
            self._file = identity(self._path)

    def leave_file(self) -> None:
        self._file = None

    def check_place(self) -> None:
        """SQLite goes on in a file that was deleted, and whoever opens the place finds another.

        Raises: BackendError.
        """
        if self._file is not None and identity(self._path) != self._file:
            raise BackendError(
                f"SQLite: {self._path} was deleted or replaced while it was open, and "
                "nothing was written. Put the file back, or close the World and open another"
            )

    def connect(self) -> PoolProxiedConnection:
        """Raises: BackendError, sqlite3.Error."""
        self.check_place()
        connection = self._engine.raw_connection()
        self._connections.append(connection)
        return connection

    def cursor(self) -> sqlite3.Cursor:
        """That of a connection of its own."""
        return cast("sqlite3.Cursor", self.connect().cursor())

    def drop(self, connection: PoolProxiedConnection) -> None:
        """Close one that is beyond use."""
        self._connections.remove(connection)
        with contextlib.suppress(Exception):
            connection.invalidate()

    def close(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(Exception):
                connection.close()
        self._connections.clear()

    def leave_alone(self) -> None:
        """In a child of the process that opened them."""
        for connection in self._connections:
            leave_alone(connection)
        self._connections.clear()
