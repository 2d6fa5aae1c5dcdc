"""Named fault points: no-ops until a test arms them.

A backend calls ``point`` before and after each statement of a write, and before each read. An
armed test may raise, pause or kill the process there, to prove that a crash at any instant leaves
nothing or all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

READ: Final = "looking "
"""So the names of points before reads begin."""

_action: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Give an armed test the chance to fail here."""
    if _action is not None:
        _action(name)


@contextmanager
def armed(action: Callable[[str], None]) -> Generator[None]:
    """Call ``action`` with the name of each fault point that is reached meanwhile."""
    global _action
    before, _action = _action, action
    try:
        yield
    finally:
        _action = before
