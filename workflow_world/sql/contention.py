"""Operations that find another transaction was first, and look again."""

from __future__ import annotations

from typing import Final

from ..errors import BackendError

MAX_LOOKS: Final = 16
"""Each further look follows a commit of somebody else on the same row."""


class Contended(BackendError):
    """An operation gives up. Unlike a refusal it may come after writes, which are undone."""


def contended(what: str) -> Contended:
    return Contended(
        f"Too many others write {what} at the same time; nothing was written", code="CONTENTION"
    )
