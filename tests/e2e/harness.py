"""What tests of killed workers and lost servers share: their processes, and what must be stored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from workflow_world import Event, World, create_world
from workflow_world.check import check

HERE: Final = Path(__file__).parent
STEPS: Final = {"chain": 8, "fan_out": 12, "naps": 3, "retries": 3, "approval": 2, "story": 2}


class Process:
    """One of our scripts, its output in lines, its errors in a file. Gone at the end, with all
    that it forked."""

    def __init__(self, script: str, url: str, folder: Path, **variables: str) -> None:
        self.errors = folder / f"{script}.txt"
        (folder / "traces").mkdir(exist_ok=True)
        ours = {"WORKFLOW_DATABASE_URL": url, "TRACES": str(folder / "traces"), **variables}
        with self.errors.open("ab") as stderr:
            self._popen = subprocess.Popen(  # our own scripts
                [sys.executable, HERE / script],
                env={**os.environ, **ours},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )

    def say(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def answer(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def finish(self, timeout: float) -> str:
        """Ends its input. Returns: the rest of its output."""
        output, _ = self._popen.communicate(timeout=timeout)
        assert self._popen.returncode == 0, self.errors.read_text()[-4000:]
        return output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.communicate()


class Workers(Process):
    """Worker processes by name."""

    def __init__(self, url: str, folder: Path, **variables: str) -> None:
        super().__init__("worker.py", url, folder, **variables)
        self._ready: dict[str, int] = {}

    def start(self, name: str) -> None:
        self.say(name)

    def pid(self, name: str) -> int:
        """Once it claims; every other one that was started must not have ended by itself."""
        while name not in self._ready:
            who, what = self.answer().split()
            assert what != "ended", self.errors.read_text()[-4000:]
            self._ready[who] = int(what)
        return self._ready[name]

    def kill(self, name: str) -> None:
        """SIGKILL."""
        os.kill(self.pid(name), signal.SIGKILL)
        del self._ready[name]


class Starter(Process):
    """Starts runs, and delivers nothing."""

    def __init__(self, url: str, folder: Path, **variables: str) -> None:
        super().__init__("starter.py", url, folder, **variables)

    def start(self, count: int) -> int:
        """Returns: how many runs were started until now."""
        self.say(str(count))
        return int(self.answer())

    def results(self, timeout: float) -> dict[str, list[Any]]:
        """Waits for every run. Returns: kind, result and expected result by run id."""
        results: dict[str, list[Any]] = json.loads(self.finish(timeout))
        return results


async def check_everything(
    url: str, results: dict[str, list[Any]], folder: Path, kills: Sequence[float] = ()
) -> int:
    """Every run has its result, and each of its steps one outcome; nothing is wrong anywhere.

    ``kills``: when workers were killed, by ``time.time``. Returns: how many executions were cut
    off.
    """
    wrong = {run: result for run, result in results.items() if result[1] != result[2]}
    assert not wrong
    world = create_world(url)
    cut_off, late = 0, list[float]()
    try:
        for run_id, (kind, _, _) in results.items():
            executions = Counter((folder / "traces" / run_id).read_text().split())
            steps = (await world.steps.list(run_id)).data
            assert len(steps) == STEPS[str(kind)]
            assert {step.status for step in steps} == {"completed"}
            for step in steps:
                # Each execution began with a recorded start; a kill may come in between.
                assert 1 <= executions[step.step_id] <= step.attempt
            log = await whole_log(world, run_id)
            check_a_log(log)
            late.extend(waits(log, kills))
            kinds = Counter(event.event_type for event in log)
            cut_off += kinds["step_started"] - kinds["step_retrying"] - kinds["step_completed"]
        stats = await world.messages.stats()
        assert not any("failed" in counts for counts in stats.counts.values()), stats
        deliveries = await most_deliveries(world)
        report = await check(world)
        assert not report.findings, report.findings
    finally:
        await world.close()
    print(f"{cut_off} executions were cut off")  # noqa: T201
    if late:
        print(f"an execution began again at most {max(late):.2f} s after a kill")  # noqa: T201
        print(f"a message was claimed at most {deliveries} times")  # noqa: T201
    return cut_off


async def most_deliveries(world: World) -> int:
    """Of any message, that which completed it included."""
    most, cursor = 0, None
    while True:
        page = await world.messages.list(cursor=cursor, limit=1000)
        most = max([most, *(one.deliveries for one in page.data)])
        if not page.has_more:
            return most
        cursor = page.cursor


def waits(log: list[Event], kills: Sequence[float]) -> Iterator[float]:
    """Seconds from a kill to the next start of each execution that it cut off. Which of two workers
    was killed nobody knows, so it is the first kill after the start that was cut off."""
    running = dict[str | None, float]()
    for event in log:
        if event.event_type == "step_started":
            at = event.created_at.timestamp()
            began = running.get(event.correlation_id)
            if began is not None and (kill := bisect(kills, began)) < len(kills):
                yield max(0.0, at - kills[kill])
            running[event.correlation_id] = at
        elif event.event_type.startswith("step_"):
            running.pop(event.correlation_id, None)


def check_a_log(log: list[Event]) -> None:
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    assert sorted(event.event_id for event in log) == [event.event_id for event in log]
    once = Counter(
        (event.correlation_id, event.event_type)
        for event in log
        if event.event_type not in ("step_started", "step_retrying")
    )
    assert set(once.values()) == {1}, once
    outcomes = Counter(
        event.correlation_id
        for event in log
        if event.event_type in ("step_completed", "step_failed")
    )
    assert set(outcomes.values()) == {1}, "no step has two outcomes"
    assert log[-1].event_type == "run_completed"


async def whole_log(world: World, run_id: str) -> list[Event]:
    page = await world.events.list(run_id, limit=1000)
    assert not page.has_more
    return [*page.data]
