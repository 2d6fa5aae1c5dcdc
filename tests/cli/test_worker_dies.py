"""``workflow-world worker`` under a supervisor that starts it anew each time it is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

FLOW = """
import asyncio, os, signal
from vercel.workflow import Workflows

workflows = Workflows()


@workflows.step
async def poison(number: int) -> None:
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


@workflows.step
async def slow(number: int) -> int:
    await asyncio.sleep(1)
    return number


@workflows.workflow
async def killing(number: int) -> None:
    await poison(number)


@workflows.workflow
async def beside(number: int) -> int:
    return await slow(number)
"""

RUNS = """
import asyncio, json
import workflow_world
world = workflow_world.install()
import flow
from vercel.workflow import start

async def main():
    kinds = [flow.killing] + [flow.beside] * 4
    runs = [await start(kind, number) for number, kind in enumerate(kinds)]
    ended = [await world.runs.wait(run.run_id, 120) for run in runs]
    print(json.dumps([run.status for run in ended]))
    await world.close()

asyncio.run(main())
"""


def test_a_step_that_kills_its_process_fails_alone(place: Path) -> None:
    """The SDK has four executions for each step, those that were cut off included."""
    (place / "flow.py").write_text(FLOW)
    (place / "runs.py").write_text(RUNS)
    worker = [sys.executable, "-m", "workflow_world", "worker", "flow"]
    with subprocess.Popen(
        [sys.executable, "runs.py"], cwd=place, stdout=subprocess.PIPE, text=True
    ) as runs:
        lives = 0
        while runs.poll() is None:
            lives += 1
            with subprocess.Popen(worker, cwd=place, stderr=subprocess.DEVNULL) as life:
                while life.poll() is None and runs.poll() is None:
                    time.sleep(0.05)
                life.kill()
        assert runs.stdout is not None
        assert json.loads(runs.stdout.read()) == ["failed"] + 4 * ["completed"]
    assert lives == 5, "one for each execution of the step, and one to say that it has none left"
