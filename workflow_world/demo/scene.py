"""How the demo looks: a timeline, a table of the steps, the checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.entities import Event
from .checks import Check, Evidence
from .record import Execution, Record, time_of

_STYLES: Final = {
    "executes": "cyan",
    "recorded": "green",
    "retry": "yellow",
    "kill -9": "bold red",
    "stream": "magenta",
    "result": "bold green",
}


class Scene:
    """Prints to a console; times are seconds since it was made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.time()

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

    def line(self, kind: str, text: str, *, at: float | None = None, note: str = "") -> None:
        """One line of the timeline."""
        seconds = (time.time() if at is None else at) - self._began
        self._console.print(
            Text.assemble(
                (f"{max(0.0, seconds):5.1f} s  ", "dim"),
                (f"{kind:<9} ", _STYLES.get(kind, "bold")),
                text,
                (f"  {note}" if note else "", "dim"),
            ),
            soft_wrap=True,
        )

    def happened(self, item: Execution | Event, record: Record) -> None:
        """An execution or an event, in words; events that say nothing new are left out."""
        at = time_of(item)
        if isinstance(item, Execution):
            before = [row for row in record.executions if row.at < at and row.what == item.what]
            self.line("executes", item.what, at=at, note="again" if before else "")
            return
        label = record.label(item.correlation_id)
        match item.event_type:
            case "step_completed":
                self.line("recorded", label, at=at)
            case "step_retrying":
                self.line("retry", f"{label} failed", at=at, note="will be tried again in a second")
            case "wait_created":
                self.line("sleeps", "2 seconds", at=at, note="in the database, not in a process")
            case "wait_completed":
                self.line("wakes up", "and goes on", at=at)
            case "hook_created":
                self.line("waits", "for an approval from outside", at=at)
            case "run_failed":
                self.line("failed", "the run", at=at)
            case _:
                pass

    def steps(self, seen: Evidence) -> None:
        """Executions against recorded outcomes, step by step."""
        executed, outcomes = seen.record.executed(), seen.record.outcomes()
        retries = seen.record.retries()
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("step", no_wrap=True)
        table.add_column("executed", justify="right")
        table.add_column("recorded", justify="right")
        table.add_column("", style="dim", no_wrap=True)
        for step in seen.steps:
            note = "before the kill: not run again"
            if step in seen.interrupted:
                note = "cut off by the kill: run again"
            elif retries.get(step):
                note = "failed once: retried"
            elif _began_after_kill(step, seen):
                note = "after the kill"
            table.add_row(step, str(executed.get(step, 0)), str(outcomes.get(step, 0)), note)
        self._console.print()
        self._console.print(table)

    def verdict(self, checks: Sequence[Check]) -> None:
        """What held, what did not, and the sum of it."""
        for check in checks:
            mark = ("ok  ", "green") if check.held else ("NO  ", "bold red")
            found = "" if check.held else f": {check.detail}"
            self._console.print(Text.assemble(mark, check.promise, found), soft_wrap=True)
        self._console.print()
        broken = sum(not check.held for check in checks)
        took = f"{time.time() - self._began:.0f} s"
        if broken:
            self._console.print(
                f"{broken} of {len(checks)} did not hold ({took}).", style="bold red"
            )
        else:
            self._console.print(f"All of it held ({took}).", style="bold green")


def _began_after_kill(step: str, seen: Evidence) -> bool:
    first = next((row.at for row in seen.record.executions if row.what == step), None)
    return first is not None and first > seen.killed_at
