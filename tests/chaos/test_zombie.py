"""B140: a worker that was stopped past its lease wakes up beside its heir, and writes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers.engines import ALL, Running

from workflow_world import NewEvent, World, create_world

HERE = Path(__file__).parent
RUN, STEP = "wrun_zombie", "__wkf_step_zombie"

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture(params=ALL)
def url(request: pytest.FixtureRequest, engines: Running) -> Iterator[str]:
    with engines(request.param).database() as found:
        yield found


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Start]:
    """A worker process by its name, once it claims; gone at the end, stopped or not."""
    processes: list[subprocess.Popen[str]] = []

    def begin(name: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(  # our own script
            [sys.executable, HERE / "zombie.py", url, name, tmp_path],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert line_of(process) == "ready"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop(process: subprocess.Popen[str], url: str) -> None:
    """Stop it between two transactions: within one it would hold up every writer of a file."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        if not url.startswith("file:") or is_writable(url.removeprefix("file:")):
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


def is_writable(path: str) -> bool:
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


async def prepare(world: World) -> str:
    """A run with one step. Returns: the id of the step's message."""
    await world.runs.create(workflow_name="w", run_id=RUN)
    await world.events.create(RUN, NewEvent(event_type="run_started"))
    created = NewEvent(
        event_type="step_created",
        correlation_id="step_1",
        event_data={"stepName": "s", "input": b""},
    )
    await world.events.create(RUN, created)
    return await world.queue(STEP, {"runId": RUN, "stepId": "step_1", "stepName": "s"})


@pytest.mark.anyio
@pytest.mark.parametrize("successor_is_done", [True, False])
async def test_a_stopped_worker_that_wakes_up_writes_nothing(
    tmp_path: Path, url: str, start: Start, successor_is_done: bool
) -> None:
    world = create_world(url)
    try:
        message_id = await prepare(world)
        zombie = start("zombie")
        assert line_of(zombie) == "zombie runs"
        stop(zombie, url)
        heir = start("heir")
        assert line_of(heir) == "heir runs", "the lease ended, so the message came again"
        if successor_is_done:
            (tmp_path / "go-heir").touch()
            assert set(json.loads(line_of(heir)).values()) == {"written"}
        (tmp_path / "go-zombie").touch()
        zombie.send_signal(signal.SIGCONT)
        told = json.loads(line_of(zombie))
        assert told == dict.fromkeys(("chunk", "message", "outcome"), "LEASE_LOST")
        if not successor_is_done:
            (tmp_path / "go-heir").touch()
            assert set(json.loads(line_of(heir)).values()) == {"written"}
        assert heir.wait(30) == 0
        assert zombie.wait(30) == 0
        step = await world.steps.get(RUN, "step_1")
        assert (step.status, step.output, step.attempt) == ("completed", b"heir", 2)
        page = await world.streams.get_chunks(RUN, "out")
        assert [chunk.data for chunk in page.data] == [b"heir"]
        message = await world.messages.get(message_id)
        assert (message.status, message.attempt, message.deliveries) == ("completed", 1, 2)
        sent = await world.messages.list(queue_name="__wkf_workflow_nobody")
        assert len(sent.data) == 1
    finally:
        await world.close()
