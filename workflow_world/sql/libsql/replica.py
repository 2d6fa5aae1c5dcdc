"""An embedded replica: a file that follows a remote database, for what is read.

Writes and what they rest on go to the primary. Before each batch of reads the file is brought up
to date, so a reader sees everything that was committed before it asked. Then it may read as
often and as much as it likes, without the network and its limits.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Dialect

from ...errors import BackendError, ConfigurationError
from ...forks import leave_alone
from ...hrana.location import Location
from ...server_clock import ServerClock
from ..compiled import Session
from ..lane import Job, Lane, Operation
from .batches import Batches
from .database import LibsqlDatabase

T = TypeVar("T")

logger = logging.getLogger("workflow_world.sql")

_EXACT: Final = 1 << 53
_MODE: Final = 0o600
_MARK: Final = "-client_wal_index"
"""Ends the name of the file that the driver keeps beside a replica."""


_BEGIN: Final = "BEGIN READONLY"
"""The driver has any other transaction run by the primary, and each statement of it too."""


class ReplicaDatabase(LibsqlDatabase):
    """See ``LibsqlDatabase``; ``path`` is the replica's file.

    The stock driver stops the whole process while it waits for the network. So only what several
    statements read, or many rows, is read here, and single rows from the primary.
    """

    def __init__(self, path: Path, location: Location, **common: Any) -> None:
        self.path, self._is_gone = path, False
        super().__init__(location, **common)

    def _start(self) -> None:
        super()._start()
        self._replica = _Replica(self.path, self.location, self.dialect, self._clock, self._batches)
        self._local = Lane(
            "workflow-world-replica", self._replica.look, threads=1, max_batch=_MAX_BATCH
        )

    def forked(self) -> None:
        self._is_gone = self._is_gone or self._is_open
        leave_alone(self._replica)
        super().forked()

    async def read(self, operation: Operation[T]) -> T:
        return await self._local.submit(operation)

    async def glance(self, operation: Operation[T], *, whole: bool = False) -> T:
        return await super().read(operation)

    def prepare(self) -> None:
        """Check the file before the driver does, which would replace it.

        Raises: BackendError.
        """
        if self._is_gone:
            raise BackendError(
                "An embedded replica stays with the process that opened it: create a World on a "
                "file of its own in a child"
            )
        _prepare(self.path)

    def _open(self, revision: str) -> None:
        self.prepare()
        super()._open(revision)
        self._replica.open()

    def _close(self) -> None:
        self._local.close()
        self._replica.close()
        super()._close()


_MAX_BATCH: Final = 64


class _Replica:
    """One connection of the stock driver, used by one thread at a time."""

    def __init__(
        self,
        path: Path,
        location: Location,
        dialect: Dialect,
        clock: ServerClock,
        primary: Batches,
    ) -> None:
        self._path, self._location = path, location
        self._dialect, self._clock, self._primary = dialect, clock, primary
        self._connection: Any = None

    def open(self) -> None:
        """Raises: BackendError, ConfigurationError."""
        connect = _driver()
        arguments: dict[str, Any] = {"sync_url": self._location.base, "isolation_level": None}
        if self._location.token is not None:
            arguments["auth_token"] = self._location.token
        try:
            self._connection = connect(str(self._path), **arguments)
            self._path.chmod(_MODE)  # before there is anything in it
            self._connection.sync()
        except (ValueError, OSError) as error:
            self.close()
            raise BackendError(
                f"libSQL: the replica {self._path} cannot follow {self._location.base}: "
                f"{self._safe(error)}"
            ) from None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def look(self, jobs: Sequence[Job[Any]]) -> None:
        """One instant for all; the primary is asked instead when the replica cannot say."""
        try:
            self._look(jobs)
        except Exception as error:
            logger.debug("The replica cannot be read, the primary is: %s", self._safe(error))
            self._primary.look(jobs)

    def _look(self, jobs: Sequence[Job[Any]]) -> None:
        connection = self._connection
        connection.sync()
        connection.execute(_BEGIN)
        try:
            session = Session(_Cursor(connection), self._dialect, self._clock.now)
            for job in jobs:
                job.run(session)
        finally:
            connection.execute("COMMIT")

    def _safe(self, error: Exception) -> str:
        text = " ".join(str(error).split())
        return text if self._location.token is None else text.replace(self._location.token, "***")


class _Cursor:
    """What a session uses of a cursor. Reads all rows at once: fetching past the end of a
    statement would run it again."""

    rowcount = -1

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: list[Any] = []

    def execute(self, statement: Any, parameters: Any = (), /) -> object:
        bound = tuple(_bound(value) for value in parameters)
        self._rows = self._connection.execute(statement, bound).fetchall()
        return self

    def executemany(self, statement: Any, parameters: Any, /) -> object:
        raise NotImplementedError("A replica is only read")

    def fetchall(self) -> list[Any]:
        return self._rows

    def close(self) -> None:
        """Nothing is open."""


def _bound(value: object) -> object:
    """As the driver binds it exactly: it takes larger integers for floats, and cuts text at NUL.

    Raises: ValueError; then the primary is asked.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and abs(value) > _EXACT:
        raise ValueError("an integer that the driver would round")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("text that the driver would cut")
    return value


def _driver() -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = importlib.import_module("libsql_experimental").connect
    except ImportError as error:
        raise ConfigurationError(
            "sync_url needs the driver of sqlalchemy-libsql, which has no wheel for this platform "
            "or this Python: name the remote database itself, as in libsql://HOST"
        ) from error
    return found


def _prepare(path: Path) -> None:
    if path.is_dir():
        raise BackendError(f"{path} is a directory: the URL must name a file for the replica")
    if not path.parent.is_dir():
        raise BackendError(f"{path.parent} does not exist: create it, or name another file")
    mark = path.with_name(path.name + _MARK)
    if path.exists() and path.stat().st_size and not mark.exists():
        raise BackendError(
            f"{path} is there already and is no replica: it was left as it is. Name another file"
        )
