"""The exceptions of PEP 249, and what the server's error codes mean in them.

    Exception
    ├── Warning
    └── Error
        ├── InterfaceError              the driver was used wrongly
        └── DatabaseError
            ├── DataError               a value that cannot be stored, sent or read
            ├── OperationalError        network, time limits, locks, rights
            │   ├── TransactionLostError    rolled back by the server: run it again
            │   └── UnknownOutcomeError     may have been committed: find out
            ├── IntegrityError          a constraint of the schema
            ├── InternalError           the database itself is in trouble
            ├── ProgrammingError        wrong SQL, wrong parameters, a closed connection
            └── NotSupportedError       the server refuses this kind of statement

No message holds a token or a parameter.
"""

from __future__ import annotations

import sqlite3
from typing import Final


class Warning(Exception):
    """Important warnings; never raised by this driver."""


class Error(Exception):
    """Any failure of this driver.

    ``code`` is the server's (``SQLITE_BUSY``, ``STREAM_EXPIRED`` …) or None, ``http_status`` that
    of an answer that was not 200. ``disconnected`` says that the connection's stream is gone.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        http_status: int | None = None,
        disconnected: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.disconnected = disconnected

    @property
    def sqlite_errorname(self) -> str | None:
        """As ``sqlite3.Error`` has it; the server tells primary codes only."""
        return self.code if self.code is not None and self.code.startswith("SQLITE_") else None

    @property
    def sqlite_errorcode(self) -> int | None:
        """The number of ``sqlite_errorname``; None where SQLite has none of that name."""
        found = getattr(sqlite3, self.sqlite_errorname or "", None)
        return found if isinstance(found, int) else None


class InterfaceError(Error):
    """The driver was used wrongly: a bad URL, a value of a type that no column holds."""


class DatabaseError(Error):
    """An error that concerns the database."""


class DataError(DatabaseError):
    """A value that cannot be stored, sent or read: out of range, not a number, too big."""


class OperationalError(DatabaseError):
    """Not the program's fault: the network, a time limit, a lock, missing rights."""


class TransactionLostError(OperationalError):
    """The transaction is gone and nothing of it was committed: it may be run again."""


class UnknownOutcomeError(OperationalError):
    """The answer to a commit was lost: it may have happened. Look before running it again."""


class IntegrityError(DatabaseError):
    """A constraint of the schema was violated; the statement undid itself."""


class InternalError(DatabaseError):
    """The database reports an internal error."""


class ProgrammingError(DatabaseError):
    """Wrong SQL, wrong parameters, an unknown table, or a closed connection or cursor."""


class NotSupportedError(DatabaseError):
    """A statement that the server does not allow, such as ATTACH."""


_CLASSES: Final[dict[str, type[DatabaseError]]] = {
    "SQLITE_CONSTRAINT": IntegrityError,
    "SQLITE_MISMATCH": IntegrityError,
    "SQLITE_TOOBIG": DataError,
    "RESPONSE_TOO_LARGE": DataError,
    "SQLITE_INTERNAL": InternalError,
    "SQLITE_NOTFOUND": InternalError,
    "SQLITE_CORRUPT": DatabaseError,
    "SQLITE_NOTADB": DatabaseError,
    "SQLITE_MISUSE": ProgrammingError,
    "SQLITE_RANGE": ProgrammingError,
    "SQL_PARSE_ERROR": ProgrammingError,
    "SQL_INPUT_ERROR": ProgrammingError,
    "SQL_NO_STATEMENT": ProgrammingError,
    "SQL_MANY_STATEMENTS": ProgrammingError,
    "ARGS_INVALID": ProgrammingError,
    "ARGS_BOTH_POSITIONAL_AND_NAMED": ProgrammingError,
    "TRANSACTION_TIMEOUT": TransactionLostError,
    "STREAM_EXPIRED": TransactionLostError,
}

_HINTS: Final = {
    "SQLITE_TOOBIG": "the server's limit for a value or row, often 5 MB",
    "RESPONSE_TOO_LARGE": "ask for fewer rows at a time",
    "TRANSACTION_TIMEOUT": "another writer waited five seconds for this one",
    "STREAM_EXPIRED": "a transaction may be idle for ten seconds",
}


def server_error(message: str, code: str | None) -> DatabaseError:
    """The exception for an error that the server reports about a statement."""
    kind = _CLASSES.get(code or "")
    if "too big" in message:
        kind, code = DataError, "SQLITE_TOOBIG"  # of a parameter it says ARGS_INVALID
    elif "unsupported statement" in message.lower():
        kind = NotSupportedError
    elif message.startswith("SQLite error: no such "):
        kind = ProgrammingError
    elif kind is None:
        kind = OperationalError if code else DatabaseError
    hint = _HINTS.get(code or "")
    text = f"{message} ({hint})" if hint else message
    return kind(text, code=code, disconnected=kind is TransactionLostError)
