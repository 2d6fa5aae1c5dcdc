"""Named fault points: no-ops until a test arms them.

A backend calls ``point`` before and after each statement of a write. An armed test may raise,
pause or kill the process there, to prove that a crash at any instant leaves nothing or all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

action: Callable[[str], None] | None = None
"""None unless a test has armed the points; statements look here before they call ``point``."""


def point(name: str) -> None:
    """Give an armed test the chance to fail here."""
    if action is not None:
        action(name)


@contextmanager
def armed(act: Callable[[str], None]) -> Generator[None]:
    """Call ``act`` with the name of each fault point that is reached meanwhile."""
    global action
    before, action = action, act
    try:
        yield
    finally:
        action = before
