"""Plays the demo: start a run, kill its worker in the middle, start another, look at the rest."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ..errors import WorldError
from ..factory import install
from ..world import World
from .checks import Evidence, check
from .process import WorkerProcess
from .record import Follower, Record
from .scene import Scene

MODULE: Final = "flow"
ORDER: Final = 42
ITEMS: Final = ("cup", "tea", "lamp")
ADDRESS: Final = "1 Long Lane"
SLEEP_S: Final = 2.0
STEPS: Final = (*(f"reserve {item}" for item in ITEMS), "charge 60", f"deliver to {ADDRESS}")
RESULT: Final = {"receipt": "receipt for 60", "approved_by": "you", "delivered_to": ADDRESS}

_LOOK_S: Final = 0.03
_TIMEOUT_S: Final = 60.0
_LOG_LINES: Final = 12


class DemoError(WorldError):
    """The demo cannot be played, or did not come to its end."""


def run_demo(console: Console, directory: Path | None = None) -> bool:
    """Play it, print it, check it.

    Args:
        directory: where the database, the workflow and the logs are left; None: a temporary
            directory, removed at the end.

    Returns: whether everything held.
    Raises: DemoError, and what ``install`` raises.
    """
    with _workplace(directory) as place:
        return asyncio.run(_Story(Scene(console), place).play())


@contextmanager
def _workplace(directory: Path | None) -> Generator[Path]:
    """The directory with the workflow in it."""
    place = Path(tempfile.mkdtemp(prefix="workflow-world-")) if directory is None else directory
    try:
        place = place.resolve()
        if (place / "workflow.db").exists():
            raise DemoError(f"{place} has a workflow.db already: choose another directory")
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / "executed.log").unlink(missing_ok=True)
            shutil.copyfile(Path(__file__).with_name(f"{MODULE}.py"), place / f"{MODULE}.py")
        except OSError as error:
            raise DemoError(f"cannot write to {place}: {error.strerror}") from error
        yield place
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


class _Story:
    def __init__(self, scene: Scene, place: Path) -> None:
        self._scene, self._place = scene, place
        self._url = f"file:{place / 'workflow.db'}"
        self._workers: list[WorkerProcess] = []
        self._chunks: list[tuple[float, str]] = []

    async def play(self) -> bool:
        # Before the import: the module binds itself to the World that is installed then.
        world = install(self._url)
        sys.path.insert(0, str(self._place))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                seen = await self._play(world, importlib.import_module(MODULE))
        except TimeoutError:
            raise DemoError(
                f"the run did not end in {_TIMEOUT_S:.0f} s. The worker said: {self._last_words()}"
            ) from None
        finally:
            sys.path.remove(str(self._place))
            for worker in self._workers:
                worker.kill()
            await world.close()
        self._scene.steps(seen)
        checks = check(seen)
        self._scene.verdict(checks)
        return all(each.held for each in checks)

    async def _play(self, world: World, flow: Any) -> Evidence:
        from vercel.workflow import start

        self._scene.say(f"workflow  {Path(__file__).with_name(f'{MODULE}.py')}")
        self._scene.say(f"database  {self._place / 'workflow.db'}\n")
        run = await start(flow.order, ORDER, list(ITEMS), ADDRESS)
        self._scene.line("starts", run.run_id, note="no worker yet: it is stored, and waits")
        follower = Follower(world, run.run_id, self._place / "executed.log")
        record = follower.record
        reader = asyncio.create_task(self._read(run))
        try:
            first = self._worker()
            await self._follow(follower, lambda: _two_of_three(record))
            await asyncio.to_thread(first.kill)
            killed_at = time.time()
            await self._look(follower)
            interrupted = frozenset(record.in_flight())
            self._scene.line(
                "kill -9", f"worker 1, in the middle of: {', '.join(interrupted) or 'nothing'}"
            )
            second = self._worker(note="on the same file")
            await self._follow(follower, lambda: record.count("hook_created") > 0)
            await flow.Approval(approved_by="you").resume(f"order-{ORDER}")
            self._scene.line("approves", "you", note="that is this process, through the database")
            await self._follow(follower, lambda: record.count("run_completed", "run_failed") > 0)
            result = await run.return_value()
            await reader
        finally:
            reader.cancel()
        self._scene.line("result", str(result))
        return Evidence(
            record=record,
            steps=STEPS,
            interrupted=interrupted,
            killed_at=killed_at,
            chunks=self._chunks,
            expected_chunks=flow.ROUTE,
            result=result,
            expected_result=RESULT,
            slept_s=SLEEP_S,
            stopped_with=await asyncio.to_thread(second.stop),
        )

    async def _read(self, run: Any) -> None:
        """The live stream, while a step in the other process writes it."""
        async for chunk in run.readable(type=str):
            now = time.time()
            self._chunks.append((now, chunk))
            self._scene.line("stream", chunk, at=now)

    async def _follow(self, follower: Follower, done: Callable[[], bool]) -> None:
        while not done():
            if (code := self._workers[-1].exit_code) is not None:
                raise DemoError(f"the worker ended with {code}. It said: {self._last_words()}")
            await self._look(follower)
            await asyncio.sleep(_LOOK_S)

    async def _look(self, follower: Follower) -> None:
        for item in await follower.news():
            self._scene.happened(item, follower.record)

    def _worker(self, *, note: str = "") -> WorkerProcess:
        worker = WorkerProcess(self._place, self._url, MODULE)
        self._workers.append(worker)
        self._scene.line("starts", f"worker {len(self._workers)} (pid {worker.pid})", note=note)
        return worker

    def _last_words(self) -> str:
        log = self._place / "worker.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return " | ".join(lines[-_LOG_LINES:]) or "nothing"


def _two_of_three(record: Record) -> bool:
    """Some steps are recorded, one is running: the worst moment to die."""
    return len(record.outcomes()) == len(ITEMS) - 1 and bool(record.in_flight())
