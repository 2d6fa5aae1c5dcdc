"""B194: workers are killed at random moments and restarted; every run ends with its result."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from workflow_world import Event, World, create_world

HERE = Path(__file__).parent
RUNS_PER_KILL = 2
KILLS = int(os.environ.get("CHAOS_KILLS", "50"))
LONGEST_LIFE_S = 0.7
"""A worker that has work is killed after at most this long."""


class Process:
    """One of our scripts, its output in lines."""

    def __init__(self, script: str, env: dict[str, str], errors: Path) -> None:
        with errors.open("ab") as stderr:
            self._popen = subprocess.Popen(  # our own scripts
                [sys.executable, HERE / script],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def ask(self, line: str) -> str:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def finish(self) -> str:
        """Ends its input. Returns: the rest of its output."""
        output, _ = self._popen.communicate(timeout=90)
        assert self._popen.returncode == 0
        return output

    def kill(self) -> None:
        """SIGKILL, or nothing when it has ended."""
        self._popen.kill()
        self._popen.communicate()


@pytest.mark.timeout(60 + 8 * KILLS)
def test_killed_workers_lose_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)  # noqa: S311
    traces, url, errors = tmp_path / "traces", f"file:{tmp_path / 'kill.db'}", tmp_path / "stderr"
    traces.mkdir()
    env = {**os.environ, "WORKFLOW_DATABASE_URL": url, "TRACES": str(traces)}
    starter = Process("starter.py", env, errors)
    workers = [Process("worker.py", env, errors) for _ in range(2)]
    try:
        for kill in range(1, KILLS + 1):
            victim = chance.randrange(2)
            assert workers[victim].answer() == "ready", errors.read_text()[-4000:]
            # New work first, so that each kill meets some.
            assert starter.ask(str(RUNS_PER_KILL)) == str(kill * RUNS_PER_KILL)
            time.sleep(chance.uniform(0, LONGEST_LIFE_S))
            workers[victim].kill()
            workers[victim] = Process("worker.py", env, errors)
        results = json.loads(starter.finish())
    finally:
        for process in (starter, *workers):
            process.kill()

    assert len(results) == KILLS * RUNS_PER_KILL
    wrong = {run: result for run, result in results.items() if result[1] != result[2]}
    assert not wrong, errors.read_text()[-4000:]
    asyncio.run(check_the_logs(url, results, traces))


async def check_the_logs(url: str, results: dict[str, list[object]], traces: Path) -> None:
    world = create_world(url)
    cut_off = 0
    try:
        for run_id, (kind, _, _) in results.items():
            executions = Counter((traces / run_id).read_text().split())
            steps = (await world.steps.list(run_id)).data
            assert len(steps) == {"chain": 8, "fan_out": 12, "naps": 3, "retries": 3}[str(kind)]
            assert {step.status for step in steps} == {"completed"}
            for step in steps:
                # Each execution began with a recorded start; a kill may come in between.
                assert 1 <= executions[step.step_id] <= step.attempt
            log = await whole_log(world, run_id)
            check_a_log(log)
            kinds = Counter(event.event_type for event in log)
            cut_off += kinds["step_started"] - kinds["step_retrying"] - kinds["step_completed"]
        stats = await world.messages.stats()
        assert not any("failed" in counts for counts in stats.counts.values()), stats
    finally:
        await world.close()
    print(f"{cut_off} executions were cut off")  # noqa: T201


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
