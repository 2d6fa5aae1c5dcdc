"""``workflow-world worker`` as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Call, Spawn

FLOW = """
import asyncio
import gc
from vercel.workflow import Workflows

workflows = Workflows()


@workflows.step
async def slow(seconds: float) -> str:
    with open("began", "w") as file:
        file.write(str(gc.get_freeze_count()))
    await asyncio.sleep(seconds)
    with open("ended", "w"):
        pass
    return "slept"


@workflows.workflow
async def nap(seconds: float) -> str:
    return await slow(seconds)
"""

START = """
import asyncio, sys
import workflow_world
world = workflow_world.install()
import naps
from vercel.workflow import start

async def main():
    run = await start(naps.nap, float(sys.argv[1]))
    if len(sys.argv) > 2:
        print((await world.runs.wait(run.run_id, 30)).status)
    await world.close()

asyncio.run(main())
"""


@contextmanager
def working(
    place: Path, *arguments: str, shown: str = "working on file:workflow.db with naps"
) -> Generator[subprocess.Popen[str]]:
    """A worker whose first words say that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workflow_world", "worker", *arguments],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            try:
                assert process.stderr is not None
                assert process.stderr.readline().startswith(shown.format(pid=process.pid))
                yield process
            finally:
                process.kill()
    finally:
        process.wait()


def start_run(place: Path, *arguments: str) -> str:
    (place / "start.py").write_text(START)
    done = subprocess.run(
        [sys.executable, "start.py", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_works_for_another_process(place: Path) -> None:
    (place / "naps.py").write_text(FLOW)
    with working(place, "naps"):
        assert start_run(place, "0", "wait") == "completed"
    assert int((place / "began").read_text()) > 10_000, "what was imported is looked through"


EXITS = """

async def leave() -> None:
    raise SystemExit(3)


@workflows.step(max_retries=0)
async def slow(seconds: float) -> None:
    await asyncio.gather(leave(), asyncio.sleep(seconds))
"""


def test_a_task_of_a_step_that_exits_fails_its_run_alone(place: Path) -> None:
    """asyncio throws it out of the event loop, too."""
    head, _, tail = FLOW.partition("@workflows.step")
    (place / "naps.py").write_text(head + EXITS + tail[tail.index("\n\n\n") :])
    with working(place, "naps") as process:
        assert start_run(place, "0.1", "wait") == "failed"
        assert process.poll() is None
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "A task called exit(3)" in stderr


def test_leaves_what_it_does_not_have_to_another_worker(place: Path) -> None:
    (place / "naps.py").write_text(FLOW)
    (place / "others.py").write_text("from vercel.workflow import Workflows\nw = Workflows()\n")
    start_run(place, "0")
    with working(place, "others", shown="working on file:workflow.db with others") as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "no workflow workflow//naps//nap" in said
        with working(place, "naps"):
            wait_for(place / "ended")
            assert start_run(place, "0", "wait") == "completed"


def test_a_module_that_installs_its_own_world(place: Path) -> None:
    """It is the one that is worked on, shown, and no reason for a warning."""
    (place / "naps.py").write_text(
        "import workflow_world\nworkflow_world.install('file:other.db')\n" + FLOW
    )
    shown = f"working on file:other.db with naps (pid {{pid}}, in {place}); stop with Ctrl+C\n"
    with working(place, "naps", shown=shown):
        assert (place / "other.db").exists()
        assert not (place / "workflow.db").exists()


def test_a_worker_that_only_calls_an_application_needs_no_workflows(place: Path) -> None:
    (place / "deliver.py").write_text(
        "import workflow_world\nworkflow_world.install(delivery='http')\n"
    )
    with working(place, "deliver", shown="working on file:workflow.db with deliver"):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_step_end(place: Path, number: signal.Signals) -> None:
    (place / "naps.py").write_text(FLOW)
    start_run(place, "1.5")
    with working(place, "naps") as process:
        wait_for(place / "began")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert (place / "ended").exists()
    assert f"{number.name}: finishing what runs" in stderr
    assert stderr.splitlines()[-1] == "stopped"
    # Its outcome was recorded, so it is not run again.
    (place / "began").unlink()
    with working(place, "naps"):
        assert start_run(place, "0", "wait") == "completed"


def test_a_second_signal_stops_at_once(place: Path) -> None:
    (place / "naps.py").write_text(FLOW)
    start_run(place, "60")
    with working(place, "naps") as process:
        wait_for(place / "began")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("SIGTERM: finishing")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("missing", None, "cannot import missing: ModuleNotFoundError: No module named 'missing'"),
        ("broken", "raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("typo", "def (", "SyntaxError"),
        ("exits", "raise SystemExit(3)", "SystemExit: 3"),
        ("missing.part", None, "start the worker where it is"),
        ("broken", "import nosuch", "No module named 'nosuch'\n"),
        ("leaky", "raise OSError('no postgresql://u:secret@h/d')", "no postgresql://***@h/d"),
        ("script.py", None, "write the name of the module: script"),
        ("app:app", None, "write the name of the module: app"),
        ("../x", None, "cannot import ../x"),
    ],
)
def test_a_module_that_cannot_be_imported(
    spawn: Spawn, place: Path, module: str, source: str | None, expected: str
) -> None:
    if source is not None:
        (place / f"{module}.py").write_text(source)
    result = spawn("worker", module)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(place.glob("*.db*"))


def test_a_module_without_workflows_is_refused(spawn: Spawn, place: Path) -> None:
    (place / "empty.py").write_text("")
    result = spawn("worker", "empty")
    assert result.returncode == 1
    assert "Workflows()" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(place.glob("*.db*"))


def test_needs_a_module(call: Call) -> None:
    assert call("worker").exit_code == 2


def test_a_bad_database_is_one_line(spawn: Spawn, place: Path) -> None:
    (place / "naps.py").write_text(FLOW)
    os.mkdir(place / "folder")
    result = spawn("worker", "naps", "--url", "file:folder")
    assert result.returncode == 1
    assert "is a directory" in result.stderr
    assert result.stderr.count("\n") == 1


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.01)
