"""Errors of the driver and of the server, as one clear line each, without values and secrets."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Final

from ... import hrana
from ...errors import BackendError, InvalidRequestError, PayloadTooLargeError, WorldError
from ..outages import UNKNOWN_OUTCOME, Unreachable

_TOO_MANY: Final = "RESPONSE_TOO_LARGE"
_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REFUSED: Final = (401, 403)
_TOO_LARGE: Final = 413
_LATER: Final = (408, 429)
_ABOUT_THE_BATCH: Final = 400

_HINTS: Final = {
    "SQLITE_READONLY": "this server is a replica, or read-only: name the primary",
    "SQLITE_FULL": "free some space on the server",
}


def is_passing(error: BaseException) -> bool:
    """Whether the transaction is undone, and may simply be run again."""
    if not isinstance(error, hrana.Error) or isinstance(error, hrana.UnknownOutcomeError):
        return False
    if _is_final(error):
        return False
    return error.disconnected or error.http_status in _LATER or error.code in _BUSY


def is_refusal(error: BaseException) -> bool:
    """Whether the server refused the request, and would refuse any other one."""
    original = getattr(error, "orig", None) or error
    if not isinstance(original, hrana.Error) or isinstance(original, hrana.UnknownOutcomeError):
        return False
    return _is_final(original) and original.http_status != _TOO_LARGE


def _is_final(error: hrana.Error) -> bool:
    """Whether another attempt would get the same answer, whatever else was lost with this one."""
    status = error.http_status or 0
    return 300 <= status < 500 and status not in (_ABOUT_THE_BATCH, *_LATER)


def is_too_many(error: BaseException) -> bool:
    """Whether the rows of an answer are more than the server sends at once."""
    return isinstance(error, hrana.Error) and error.code == _TOO_MANY


def backend_error(error: hrana.Error) -> WorldError:
    """What the driver says holds neither a token nor a parameter."""
    text = " ".join(str(error).split())
    if isinstance(error, hrana.UnknownOutcomeError):
        return BackendError(f"libSQL: {text}", code=UNKNOWN_OUTCOME)
    if isinstance(error, hrana.IntegrityError):
        return BackendError(f"libSQL: {text}", code="CONSTRAINT")
    if error.code == "SQLITE_TOOBIG" or error.http_status == _TOO_LARGE:
        return PayloadTooLargeError(f"libSQL: {text}; nothing was written")
    if isinstance(error, hrana.DataError) and error.code is None:
        return InvalidRequestError(text)  # a value that cannot be bound
    if error.http_status in _REFUSED:
        return BackendError(
            f"libSQL: {text} (check the option auth_token, or WORKFLOW_TURSO_AUTH_TOKEN)"
        )
    if is_passing(error):
        return Unreachable(f"libSQL: {text}")
    if "no such table" in text or "no such column" in text:
        hint = "the tables are of another version: run 'workflow-world db upgrade'"
        return BackendError(f"libSQL: {text} ({hint})")
    said = _HINTS.get(error.code or "")
    return BackendError(f"libSQL: {text}" + (f" ({said})" if said else ""))


def ours(error: Exception) -> Exception:
    """A driver error, also one that SQLAlchemy has wrapped, as ours; any other as it is."""
    original = getattr(error, "orig", None) or error
    found: WorldError
    if isinstance(original, hrana.Error):
        found = backend_error(original)
    elif isinstance(error, UnicodeEncodeError):
        found = InvalidRequestError("Text with lone surrogates cannot be stored")
    elif isinstance(error, OverflowError):
        found = InvalidRequestError("A number is too large to be stored")
    else:
        return error
    found.__cause__ = error
    return found


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Driver errors become ours; no message holds a parameter."""
    try:
        yield
    except Exception as error:
        if (found := ours(error)) is error:
            raise
        raise found from error
