"""The driver: how a client is made, and what its errors become."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC
from typing import Any, Final, TypeAlias

from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database as MongoDatabase
from pymongo.errors import (
    AutoReconnect,
    CursorNotFound,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)
from pymongo.errors import (
    ConfigurationError as MongoConfigurationError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from ..errors import BackendError, ConfigurationError
from .documents import Document

Client: TypeAlias = MongoClient[Document]
Tables: TypeAlias = MongoDatabase[Document]

DEFAULT_NAME: Final = "workflow"
SELECTION_MS: Final = 5_000
"""How long a server is looked for, in milliseconds."""
SOCKET_MS: Final = 20_000
"""How long an answer may take, in milliseconds."""

_CODEC: Final[CodecOptions[Any]] = CodecOptions(
    tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_NOT_ALLOWED: Final = frozenset({13, 18, 8000})
"""Codes of the server: not authorized, or not authenticated."""


def name_in(url: str) -> str | None:
    """The database that a URL names. Raises: ConfigurationError, which does not quote it."""
    try:
        found: dict[str, Any] = parse_uri(url) if url.startswith("mongodb://") else _seedless(url)
        return found.get("database")
    except (InvalidURI, MongoConfigurationError, ValueError) as error:
        kind = type(error).__name__
    # What the driver says may quote the password: so it is not in the context either.
    raise ConfigurationError(
        "The MongoDB URL cannot be read: write mongodb://USER:PASSWORD@HOST:PORT/DATABASE, "
        "with / : @ and % in a user's name or password written as %2F %3A %40 %25 "
        f"({kind})"
    )


def _seedless(url: str) -> dict[str, Any]:
    """``mongodb+srv``: what can be known without asking the DNS."""
    _, _, rest = url.partition("://")
    path = rest.partition("/")[2].partition("?")[0]
    return {"database": path.partition(".")[0] or None}


def connect(url: str) -> Client:
    """No I/O yet. Raises: ConfigurationError."""
    try:
        return MongoClient(
            url,
            serverselectiontimeoutms=SELECTION_MS,
            connecttimeoutms=SELECTION_MS,
            sockettimeoutms=SOCKET_MS,
            appname="workflow-world",
            connect=False,
        )
    except (InvalidURI, MongoConfigurationError, ValueError, TypeError) as error:
        kind = type(error).__name__
    raise ConfigurationError(f"The MongoDB URL has an option that the driver refuses ({kind})")


def tables_of(client: Client, name: str) -> Tables:
    """The database, with what its answers promise whatever the URL says: written to the disks of
    most members, and read from the member that has all of it."""
    return client.get_database(
        name,
        codec_options=_CODEC,
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("local"),
    )


_UNREACHED: Final = (
    AutoReconnect,
    CursorNotFound,
    ExecutionTimeout,
    WriteConcernError,
)
"""``WriteConcernError``: it is written, but perhaps not for good."""


class Unreached(BackendError):
    """No server answered, or none for good.

    Attributes:
        sent: whether the last request may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


@contextmanager
def translated() -> Generator[None]:
    """Raises: BackendError for whatever the driver raises."""
    try:
        yield
    except PyMongoError as error:
        raise _translation(error) from error
    except BSONError as error:
        raise BackendError(f"MongoDB: {error}", code="CORRUPT") from error


def _translation(error: PyMongoError) -> BackendError:
    if isinstance(error, _UNREACHED):
        # Of a request that is sent again, the driver raises what became of the first.
        sent = not isinstance(error, ServerSelectionTimeoutError)
        return Unreached(f"MongoDB cannot be reached: {_text(error)}", sent=sent)
    if isinstance(error, OperationFailure) and error.code in _NOT_ALLOWED:
        return BackendError(
            "MongoDB refuses the user or the password, or the user may not read and write the "
            "database: check the URL and the user's roles (readWrite is needed)"
        )
    return BackendError(f"MongoDB: {_text(error)}")


def _text(error: PyMongoError) -> str:
    """Without the description of the topology, which is longer than what it explains."""
    text = str(error).partition(", Topology Description:")[0]
    return text.partition(", full error:")[0][:500]
