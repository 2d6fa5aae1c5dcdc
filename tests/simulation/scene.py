"""One seed, beginning to end: workers and clients under chaos, then healing, then the verdict."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from workflow_world import World
from workflow_world import faults as fault_points
from workflow_world.errors import WorldError
from workflow_world.settings import Settings
from workflow_world.sql import open_database

from .book import Book
from .clients import Clients
from .clock import SimulatedClock, seeded_ids
from .faulty import Chances, Faults, FaultyBackend
from .flow import Flow
from .ledger import Ledger
from .loop import SimulatedLoop
from .plan import Plan, plan_of
from .processes import OUTSIDE, Process, Stuck, here, within
from .stores import MemoryStore, SqliteStore, Store
from .surroundings import fast_directory, quiet_logs, seeded_globals
from .verdict import Verdict

Kind = Literal["memory", "sqlite"]

HEALING_S: Final = 900
"""Of simulated time, for every run to end once nothing fails any more."""
MAX_STEPS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a seed. ``trace`` is the hash of ``lines``, of which only the last are kept."""

    seed: int
    kind: Kind
    steps: int
    trace: str
    wrong: list[str]
    lines: list[str]


def simulate(seed: int, kind: Kind, *, template: Path, kept: int | None = 200) -> Outcome:
    """Play the seed. ``template``: see ``SqliteStore``; ``kept``: lines of the trace, None: all."""
    random = Random(seed)
    plan = plan_of(random)
    loop = SimulatedLoop(
        random,
        shuffled=random.random() < 0.5,
        step_s=random.choice((0.0, 0.00001, 0.001)),
        max_steps=MAX_STEPS,
        kept=kept,
    )
    clock = SimulatedClock(loop)
    with (
        tempfile.TemporaryDirectory(dir=fast_directory()) as directory,
        seeded_ids(clock, random),
        seeded_globals(seed),
        quiet_logs() as logged,
    ):
        faults = Faults(loop, random, Chances())
        store: Store = (
            MemoryStore(clock, faults)
            if kind == "memory"
            else SqliteStore(template, Path(directory) / "workflow.db", loop, clock, faults)
        )
        scene = Scene(loop, clock, random, plan, faults, store)
        wrong: list[str] = []
        try:
            with fault_points.armed(scene.reached):
                wrong += loop.run(scene.play())
        except Stuck as error:
            wrong.append(f"stuck: {error}")
        except Exception:
            wrong.append(traceback.format_exc())
        finally:
            loop.close()
            store.close()
        wrong += scene.ledger.violations + loop.errors + logged
    return Outcome(
        seed=seed, kind=kind, steps=loop.steps, trace=loop.trace, wrong=wrong, lines=[*loop.lines]
    )


def make_template(path: Path) -> Path:
    """An empty database with the newest schema, in one file."""
    database = open_database(f"file:{path}", environ={})
    database.open_blocking()
    database.close()
    return path


class Scene:
    def __init__(
        self,
        loop: SimulatedLoop,
        clock: SimulatedClock,
        random: Random,
        plan: Plan,
        faults: Faults,
        store: Store,
    ) -> None:
        self._loop, self._clock, self._random, self._plan = loop, clock, random, plan
        self._faults, self._store = faults, store
        self.ledger = Ledger(serialized=plan.options["serialize_runs"])
        self._book = Book(loop.time)
        self._workers: dict[Process, World] = {}
        self._started, self._latest_s = 0, 0.0
        options = plan.options
        sweep_ms = options["recovery_interval_ms"] + options["recovery_grace_ms"]
        self._sweep_s = sweep_ms / 1000 + 2

    def reached(self, name: str) -> None:
        """A fault point of the product."""
        if name == self._store.after_commit:
            self._look()
        self._faults.at_point(name, self._store.error)
        if name == self._store.before_commit:
            self._look()

    def _look(self) -> None:
        process, _ = here.get()
        self.ledger.look(self._store.rows(), process, self._clock.now())
        self._store.committed()

    async def play(self) -> list[str]:
        """Returns: what is wrong."""
        plan = self._plan
        client = Process("client", mortal=False)
        clients = Clients(self._world(client), self._faults, self._book)
        self._faults.chances = plan.chances
        for _ in range(plan.workers):
            self._start_worker()
        duties = [self._task(client, duty) for duty in self._duties(clients)]
        resumes = [
            self._task(client, clients.resume(one, hook_id, after))
            for one in plan.runs
            for hook_id, after in one.hooks.items()
            if after is not None
        ]
        watchers = [self._task(client, clients.read(one)) for one in plan.runs if one.reads]
        watchers += [
            self._task(client, clients.wait(one))
            for one in plan.runs
            if None not in one.hooks.values()
        ]
        await self._chaos()
        self._heal()
        verdict = Verdict(self._judge(), self._clock, self._book, plan)
        await self._quiet(verdict, duties)
        wrong = await verdict.of_runs() + await self._close_all()
        await verdict.end_streams()
        _, late = await asyncio.wait(watchers, timeout=60) if watchers else ((), ())
        wrong += [f"a client waits for ever: {task.get_coro().__qualname__}" for task in late]
        for task in [*duties, *resumes, *watchers]:
            if task.done() and (error := task.exception()) is not None:
                wrong.append(f"a client failed: {error!r}")
        wrong += await verdict.of_logs(self.ledger.acknowledged)
        return wrong + await verdict.of_streams() + await verdict.of_check()

    # --- processes -----------------------------------------------------------------------

    def _task(self, process: Process, coroutine: Any) -> Any:
        return self._loop.create_task(coroutine, context=within(process))

    def _world(self, process: Process) -> World:
        backend, hub = self._store.handle(process)
        faulty = FaultyBackend(backend, hub, process, self._faults, self.ledger)
        return World(faulty, Settings(**self._plan.options), clock=self._clock)

    def _judge(self) -> World:
        """A World that no fault reaches."""
        backend, _ = self._store.handle(OUTSIDE)
        return World(backend, Settings(**self._plan.options), clock=self._clock)

    def _start_worker(self) -> None:
        self._started += 1
        process = Process(f"worker{self._started}")
        world = self._world(process)
        Flow(world, self._clock, self._book)
        process.at_end.append(lambda: self._replace(process))
        self._workers[process] = world
        self._task(process, _started(world))

    def _replace(self, process: Process) -> None:
        """Another worker comes after a while."""
        self._workers.pop(process, None)
        delay = self._random.uniform(0, 10)
        self._loop.call_later(delay, self._start_worker, context=within(OUTSIDE))

    async def _end(self, process: Process, world: World) -> None:
        """A graceful end, as after SIGTERM. What it held is given back by then."""
        await world.close()
        process.alive = False

    async def _close_all(self) -> list[str]:
        """Every worker ends gracefully, and in time."""
        tasks = [self._task(one, self._end(one, world)) for one, world in self._workers.items()]
        limit = self._plan.options["shutdown_timeout_ms"] / 1000 + 60
        _, late = await asyncio.wait(tasks, timeout=limit) if tasks else ((), ())
        return ["a worker does not end"] * len(late)

    # --- what happens to them ------------------------------------------------------------

    def _duties(self, clients: Clients) -> Generator[Any]:
        for run in self._plan.runs:
            yield clients.start(run)
            if run.cancelled_after is not None:
                yield clients.cancel(run, run.cancelled_after)
        for ping in self._plan.pings:
            yield clients.ping(ping)

    async def _chaos(self) -> None:
        plan = self._plan
        end = self._loop.time() + plan.lasts
        while (left := end - self._loop.time()) > 0:
            await asyncio.sleep(min(left, self._random.expovariate(1 / plan.every)))
            if plan.chaos and self._workers:
                what = self._random.choice(plan.chaos)
                self._strike(what, self._random.choice([*self._workers]))

    def _strike(self, what: str, process: Process) -> None:
        self._loop.note(f"chaos: {what} {process.name}")
        if what == "clock":
            self._clock.offset_s += self._random.choice((-1, 1)) * self._random.expovariate(1 / 10)
            self._latest_s = max(self._latest_s, self._clock.offset_s)
        elif what == "kill":
            self._loop.kill(process)
        elif what == "restart":
            world = self._workers.pop(process)
            self._task(process, self._end(process, world))
            self._replace(process)
        else:
            attribute = "paused" if what == "pause" else "busy"
            setattr(process, attribute, True)
            lock_s = self._plan.options["lock_duration_ms"] / 1000
            delay = self._random.uniform(0, 3 * lock_s)
            self._loop.call_later(delay, setattr, process, attribute, False)

    def _heal(self) -> None:
        self._loop.note("heal")
        self._faults.chances = Chances()
        self._clock.offset_s = self._latest_s  # no time stamp lies in the future any more
        for process in self._workers:
            process.paused = process.busy = False
        if not self._workers:
            self._start_worker()

    async def _quiet(self, verdict: Verdict, duties: list[Any]) -> None:
        """Until nothing is left to do, or it is clear that it will never be done."""
        end = self._loop.time() + HEALING_S
        while self._loop.time() < end:
            await asyncio.sleep(1)
            if all(task.done() for task in duties):
                for task in duties:
                    task.result()
                if await verdict.is_quiet():
                    # What only the sweep brings on is on its way by then.
                    await asyncio.sleep(self._sweep_s)
                    if await verdict.is_quiet():
                        return


async def _started(world: World) -> None:
    while True:
        try:
            await world.start()
        except WorldError:
            await asyncio.sleep(1)
        else:
            return
