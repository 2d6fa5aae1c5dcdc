"""A DBAPI 2.0 driver (PEP 249) for remote libSQL databases: sqld and Turso, by Hrana 3 over HTTP.

    from workflow_world import hrana

    with hrana.connect("libsql://HOST", auth_token=TOKEN) as connection:
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute("SELECT n FROM t WHERE id = ?", (1,)).fetchone()
        connection.execute("UPDATE t SET n = ? WHERE id = ?", (row[0] + 1, 1))

It waits without holding the interpreter lock, has time limits, is safe after a fork, and carries
64-bit integers exactly. Beyond PEP 249 and what ``sqlite3`` has: ``Connection.batch``,
``flush`` and ``write_behind`` save round trips, and two errors tell what to do after a failure:
TransactionLostError (nothing was committed: run it again) and UnknownOutcomeError (find out).
"""

from .connection import Connection, connect
from .cursor import Cursor
from .errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    TransactionLostError,
    UnknownOutcomeError,
    Warning,
)
from .results import Result
from .values import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"
"""``?``; names (``:name``) with a mapping work too."""

sqlite_version_info = (3, 45, 1)
"""The oldest SQLite that a supported server has inside; SQLAlchemy asks for it."""

sqlite_version = "3.45.1"

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Result",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "TransactionLostError",
    "UnknownOutcomeError",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
]
