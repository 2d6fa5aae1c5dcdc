"""``workflow-world inspect``."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from check.stores import BUSY, ENDED, GONE, LEGACY, PENDING, STEPPING, beginning, make

from .conftest import Call, Spawn

URL = "file:workflow.db"
DUE = "has been due for (120 min|2 h)"


@pytest.fixture(autouse=True)
def store(place: Path) -> None:
    asyncio.run(make(URL, place / "workflow.db", beginning()))


def reasons(call: Call, run_id: str) -> list[str]:
    result = call("inspect", "run", run_id, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["run_id"] == run_id
    shown = call("inspect", "run", run_id)
    assert shown.exit_code == 0
    texts: list[str] = found["reasons"]
    head, *lines = shown.stdout.splitlines()
    assert head.startswith(f"{run_id} of greet: {found['status']}")
    # Spans of time go on between the two.
    assert [line.split()[:3] for line in lines] == [["-", *text.split()[:2]] for text in texts]
    return texts


def test_runs_in_the_middle(call: Call) -> None:
    replay, step, sleep, hook = reasons(call, BUSY)
    assert re.match(f"Its next replay {DUE}, and no worker of the queue ", replay)
    assert re.match(rf"Step add \(step_2\) {DUE}", step)
    assert sleep.startswith("It sleeps until ")
    assert sleep.endswith(" for 7 d more (wait_2)")
    assert hook == "It waits for the hook hook_1"
    (step,) = reasons(call, STEPPING)
    assert re.match(rf"Step add \(step_1\) {DUE}", step)
    (start,) = reasons(call, PENDING)
    assert re.match(f"Its start {DUE}", start)


def test_runs_that_have_ended(call: Call) -> None:
    (line,) = reasons(call, ENDED)
    assert line.startswith("It completed at 20")
    (line,) = reasons(call, LEGACY)
    assert line.startswith("It was cancelled at 20")


def test_no_secret_and_no_payload(call: Call) -> None:
    text = call("inspect", "run", BUSY).stdout + call("inspect", "run", BUSY, "--json").stdout
    assert "first of" not in text  # the token
    assert "hello" not in text


def test_a_run_that_is_not_there(call: Call) -> None:
    result = call("inspect", "run", GONE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: Run '{GONE}' not found\n"


def listed(call: Call, *arguments: str) -> tuple[list[str], str | None]:
    result = call("inspect", "runs", "--json", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return [run["run_id"] for run in found["runs"]], found["cursor"]


def test_the_list(call: Call) -> None:
    everything = [STEPPING, PENDING, LEGACY, ENDED, BUSY]
    assert listed(call) == (everything, None)
    assert listed(call, "--status", "running", "--status", "pending") == (
        [STEPPING, PENDING, BUSY],
        None,
    )
    assert listed(call, "--name", "other") == ([], None)
    first, cursor = listed(call, "--limit", "3")
    assert cursor is not None
    second, end = listed(call, "--limit", "3", "--cursor", cursor)
    assert (first + second, end) == (everything, None)
    shown = call("inspect", "runs", "--limit", "3").stdout
    assert "created (UTC)" in shown
    assert shown.endswith(f"There are more: --cursor {cursor}\n")
    assert "No such run." in call("inspect", "runs", "--name", "other").stdout
    assert "not one that this list" in call("inspect", "runs", "--cursor", "x").stderr


FLOW = """
from vercel.workflow import FatalError, Workflows

workflows = Workflows()


@workflows.step
async def charge(number: int) -> int:
    raise FatalError("card declined")


@workflows.workflow
async def pay(number: int) -> int:
    return await charge(number)
"""

PAY = """
import asyncio
import workflow_world
world = workflow_world.install("file:pay.db")
import flow
from vercel.workflow import start

async def main():
    async with world:
        run = await start(flow.pay, 1)
        await world.runs.wait(run.run_id, 60)
    print(run.run_id)

asyncio.run(main())
"""


def test_the_text_of_an_error(spawn: Spawn, place: Path) -> None:
    (place / "flow.py").write_text(FLOW)
    (place / "pay.py").write_text(PAY)
    paid = subprocess.run(
        [sys.executable, "pay.py"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    run_id = paid.stdout.strip()
    inspect = "inspect", "run", run_id, "--url", "file:pay.db"
    silent = spawn(*inspect)
    assert "It failed at " in silent.stdout
    assert "Step step//flow//charge (" in silent.stdout
    assert "card declined" not in silent.stdout
    said = spawn(*inspect, "--error")
    assert said.stdout.startswith(silent.stdout), said.stderr
    assert said.stdout.endswith(f'- Workflow run "{run_id}" failed: card declined\n')
