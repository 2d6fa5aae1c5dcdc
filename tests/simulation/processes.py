"""Simulated operating-system processes: what belongs to one dies and pauses with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

MAIN: Final = "loop"


class Crash(BaseException):
    """A process dies here. Not an ``Exception``: nothing may handle it and go on."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, or there is no end of steps."""


@dataclass(eq=False)
class Process:
    """A simulated process.

    Attributes:
        paused: all of it stands still, as after SIGSTOP.
        busy: its event loop does nothing, but its threads go on.
        mortal: faults may kill it.
        at_end: what the kernel does when it is killed.
    """

    name: str
    alive: bool = True
    paused: bool = False
    busy: bool = False
    mortal: bool = True
    tasks: list[Task] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)

    def runs(self, thread: str) -> bool:
        return not self.paused and not (self.busy and thread == MAIN)


OUTSIDE: Final = Process("outside")
"""What starts, kills and judges the others."""

here: ContextVar[tuple[Process, str]] = ContextVar("here", default=(OUTSIDE, MAIN))


def within(process: Process, thread: str = MAIN) -> Context:
    """A context whose callbacks and tasks belong to that strand."""
    context = copy_context()
    context.run(here.set, (process, thread))
    return context


class Task(asyncio.Task[Any]):
    """Numbered, so that sets of tasks have the same order each time."""

    def __init__(self, *args: Any, number: int, context: Context, **more: Any) -> None:
        self.number, self.within = number, context
        super().__init__(*args, context=context, **more)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


def unwind(task: Task) -> None:
    """Run the ``finally`` blocks of a task that will never go on."""
    if task.done():
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    try:
        task.within.run(task.get_coro().close)
    except (Exception, Crash):
        # It is the running one, which unwinds itself; or it awaits while it ends.
        return
