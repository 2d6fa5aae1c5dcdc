"""Errors of psycopg and of the server, as one clear line each, without values and secrets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Iterable
from typing import Final

import psycopg

from ...errors import BackendError, InvalidRequestError, WorldError
from ..outages import Unreachable

_CONFLICTS: Final = frozenset({"40001", "40P01", "23505"})
"""Another transaction was first: serialization failure, deadlock, unique violation."""

LOCK_NOT_AVAILABLE: Final = "55P03"
BLOCKED: Final = frozenset({LOCK_NOT_AVAILABLE, "40P01"})
"""Another transaction was in the way, for long or for ever."""

STALE: Final = frozenset({"26000", "42P05", "0A000"})
"""What was prepared on the connection is not what the server has, or means something else now."""

_GONE: Final = ("57P01", "57P02", "57P03", "57P05", "25P03")
"""The server ended the connection, saying so."""

_PERMANENT: Final = (
    ("password authentication failed", "check the user and the password"),
    ("no password supplied", "the server wants a password"),
    ("authentication failed", "check the user and how it may log in"),
    ("no encryption", "the server lets nobody in without TLS, or not from here: check sslmode"),
    ("no pg_hba.conf entry", "the server does not let this user in from here"),
    ("pg_hba.conf rejects", "the server does not let this user in from here"),
    ("root certificate", "check sslrootcert"),
    ("does not exist", "create it, or name another"),
    ("permission denied", "grant the role the right to connect"),
    ("is not permitted to log in", "use a role with LOGIN"),
    ("certificate", "check sslmode and sslrootcert"),
    ("does not support ssl", "check sslmode"),
    ("invalid connection option", "remove it from the URL"),
    ("invalid port number", "check the port in the URL"),
    ("bad value for", "check the parameters of the URL"),
    ("invalid sslmode", "check sslmode"),
    ("failed to resolve host", "check the host in the URL"),
    ("could not translate host name", "check the host in the URL"),
)

_NO_NAMES: Final = "the name service does not answer: check the host in the URL, and the network"
_PASSING: Final = (
    (f"[errno {int(socket.EAI_AGAIN)}]", _NO_NAMES),
    ("temporary failure in name resolution", _NO_NAMES),
    ("too many clients", "lower pool_size, or raise max_connections"),
    ("remaining connection slots", "lower pool_size, or raise max_connections"),
    ("too many connections", "lower pool_size, or raise the limit"),
)
"""Looked for first: some of them are said in the words of what is for good."""

_UNHEARD: Final = "a session that listens has been in a transaction for long: end it"
_HINTS: Final = {
    "42501": "grant the role the rights it needs: 'workflow-world db grants' prints them",
    "25006": "this server is a standby, or read-only: connect to the primary",
    "53100": "free some space on the server",
    "53300": "lower pool_size, or raise max_connections",
    "42P01": "the tables are missing: run 'workflow-world db upgrade', or check schema",
    "42703": "the tables are of another version: run 'workflow-world db upgrade'",
    "26000": "behind a pooler that changes the connection: set transaction_pooler",
    "42P05": "behind a pooler that changes the connection: set transaction_pooler",
    "57014": "raise statement_timeout_ms",
    LOCK_NOT_AVAILABLE: "another transaction holds the row for longer than lock_timeout_ms",
}


def is_lost(error: psycopg.Error, connection: psycopg.Connection[object]) -> bool:
    """Whether the connection is gone, so that a transaction that was open is undone."""
    return bool(connection.closed) or error.sqlstate in _GONE


def is_unheard(error: psycopg.Error) -> bool:
    """Whether the server keeps no more notifications, for some session has not heard the old."""
    text = error.diag.message_primary or ""
    return error.sqlstate == "54000" and "notifications" in text


def is_passing(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed in a moment; it was undone."""
    return error.sqlstate in _CONFLICTS or is_unheard(error)


def connect_error(error: psycopg.Error, label: str, secrets: Iterable[str]) -> BackendError:
    """``Unreachable`` where a later attempt may succeed."""
    reason = _one_line(str(error))
    # Before anything is hidden: a password may be one of the words.
    lower = reason.lower()
    for secret in secrets:
        reason = reason.replace(secret, "***")
    for mark, hint in _PASSING:
        if mark in lower:
            return Unreachable(f"Postgres at {label}: {reason} ({hint})")
    for mark, hint in _PERMANENT:
        if mark in lower:
            return BackendError(f"Postgres at {label}: {reason} ({hint})")
    return Unreachable(f"Postgres at {label}: {reason} (check that it runs and can be reached)")


def lost_again(error: BaseException) -> Unreachable:
    """``error`` was raised from what was seen of the last loss."""
    reason = "" if error.__cause__ is None else f": {_one_line(str(error.__cause__))}"
    return Unreachable(f"Postgres: the connection was lost, again and again{reason}")


def backend_error(error: psycopg.Error) -> WorldError:
    """The server's own first line: the others may have values in them."""
    state = error.sqlstate or ""
    reason = error.diag.message_primary or _one_line(str(error))
    if "NUL" in reason and not state:
        return InvalidRequestError("Text with NUL characters cannot be stored in Postgres")
    if state == "22003":
        return InvalidRequestError("A number is too large to be stored")
    if state == "22P05":
        return InvalidRequestError(
            "The database's encoding (UTF8 is best) lacks a character of a text"
        )
    if is_unheard(error):
        return BackendError(f"Postgres: {reason} ({_UNHEARD})")
    if state == "54000":
        return InvalidRequestError(f"A name is too long to be stored in Postgres: {reason}")
    code = "CONSTRAINT" if state.startswith("23") else "BACKEND"
    if state == "0A000" and "recovery" in reason:
        state = "25006"
    hint = _HINTS.get(state)
    return BackendError(f"Postgres: {reason}" + (f" ({hint})" if hint else ""), code=code)


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Driver errors become ours; no message holds a parameter."""
    try:
        yield
    except psycopg.Error as error:
        raise backend_error(error) from error
    except UnicodeEncodeError as error:
        raise InvalidRequestError("Text with lone surrogates cannot be stored") from error
    except OverflowError as error:
        raise InvalidRequestError("A number is too large to be stored") from error
    except Exception as error:
        original = getattr(error, "orig", None)
        if isinstance(original, psycopg.Error):
            raise backend_error(original) from error
        raise


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
