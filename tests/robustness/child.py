"""Many processes on one database: ``child.py COMMAND URL …``.

This process imports everything once and forks those that do the work, which is much cheaper than
to start each. What a child returns comes back as JSON; this process prints one line of it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from workflow_world import EntityConflictError, RunExpiredError, WorldError, clock, create_world
from workflow_world.backend import NewMessage
from workflow_world.core.delivery import Done, Limits, settle
from workflow_world.http import QueueContinuation

FLOWS, FLOW, STEPS = "__wkf_workflow_", "__wkf_workflow_w", "__wkf_step_"
PATIENCE_S = float(os.environ.get("CHAOS_PATIENCE_S", "200"))


def event(kind: str, key: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": key, "eventData": data or None}


def created() -> dict[str, object]:
    return event("run_created", deploymentId="d", workflowName="w", input=b"")


# --- children ------------------------------------------------------------------------------------


class Child:
    """A forked process: its id, what it says, and what it is told."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._source, sink = os.pipe()
        self._text = b""
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                result = asyncio.run(_awaited(work))
                with os.fdopen(sink, "w") as pipe:
                    json.dump(result, pipe)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(sink)

    def end(self, *, codes: Sequence[int] = (0,)) -> Any:
        """What it returned; None when it did not come to that."""
        text = b""
        while part := os.read(self._source, 65_536):
            text += part
        os.close(self._source)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise AssertionError(f"a child ended with {code}")
        return json.loads(text) if text else None


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE_S * 30):
        return await work()


def at_once(count: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """``work`` in so many children, which begin together."""
    gate, opened = os.pipe()

    def begin(number: int) -> Callable[[], Awaitable[Any]]:
        async def wait_and_work() -> Any:
            os.close(opened)
            await asyncio.to_thread(os.read, gate, 1)
            return await work(number)

        return wait_and_work

    children = [Child(begin(number)) for number in range(count)]
    os.close(gate)
    os.close(opened)  # now every read ends
    return [child.end() for child in children]


# --- races ---------------------------------------------------------------------------------------


async def prepare_races(url: str, rounds: int) -> None:
    """A run per round that each event of ``tries`` may happen to once."""
    world = create_world(url)

    async def one(number: int) -> None:
        run = f"wrun_{number}"
        for run_id in (run, f"{run}_end"):
            await world.events.create(run_id, created())
            await world.events.create(run_id, event("run_started"))
        for what in (
            event("step_created", "step_done", stepName="s", input=b""),
            event("step_started", "step_done"),
            event("wait_created", "wait_done", resumeAt="2090-01-01T00:00:00Z"),
            event("hook_created", "hook_done", token=f"done {number}"),
            event("hook_created", "hook_resumed", token=f"resumed {number}"),
        ):
            await world.events.create(run, what)

    await asyncio.gather(*map(one, range(rounds)))
    await world.close()


def tries(number: int, name: str) -> list[tuple[str, str, dict[str, object]]]:
    """What only one may do: a name for it, the run and the event."""
    run, far = f"wrun_{number}", "2091-01-01T00:00:00Z"
    end = event("run_failed", error=name) if int(name) % 2 else event("run_completed", output=name)
    outcome = event("step_completed", "step_done", result=name)
    if int(name) % 2:
        outcome = event("step_failed", "step_done", error=name)
    change = [{"key": "k", "value": name}]
    return [
        ("run created", f"wrun_new_{number}", created()),
        ("step created", run, event("step_created", "step_new", stepName="s", input=b"")),
        ("step outcome", run, outcome),
        ("hook created", run, event("hook_created", "hook_new", token=f"new {number}")),
        ("hook disposed", run, event("hook_disposed", "hook_done")),
        ("wait created", run, event("wait_created", "wait_new", resumeAt=far)),
        ("wait completed", run, event("wait_completed", "wait_done")),
        (
            "attributes set",
            run,
            event("attr_set", "attr_new", changes=change, writer={"type": "workflow"}),
        ),
        ("run ended", f"{run}_end", end),
    ]


async def race(url: str, name: str, rounds: int) -> dict[str, int]:
    """Four tasks try everything; counts who was let through."""
    world = create_world(url)
    await world.backend.open()
    won: Counter[str] = Counter()

    async def attempt(task: int) -> None:
        for number in range(rounds):
            for what, run_id, proposed in tries(number, name):
                try:
                    await world.events.create(run_id, proposed)
                    won[f"{number} {what}"] += 1
                except WorldError as error:
                    if error.status not in (404, 409, 410):
                        raise
            resumed = event("hook_received", "hook_resumed", payload=b"same")
            await world.events.create(f"wrun_{number}", resumed, resume_id=f"resume_{number}")
            own = f"wrun_{name}_{task}_{number}"
            await world.events.create(own, created())
            token = event("hook_created", "h", token=f"the token {number}")
            if (await world.events.create(own, token)).hook is not None:
                won[f"{number} token"] += 1
            key = f"key {number}"
            sent = await world.queue(FLOW, {"runId": own}, idempotency_key=key)
            won[f"{number} message {sent}"] = 1

    await asyncio.gather(*map(attempt, range(4)))
    await world.close()
    return won


def races(url: str, rounds: str) -> dict[str, int]:
    async def prepare() -> None:
        await prepare_races(url, int(rounds))

    Child(prepare).end()
    total: Counter[str] = Counter()
    for won in at_once(8, lambda number: race(url, str(number), int(rounds))):
        total.update(won)
    return total


# --- claims --------------------------------------------------------------------------------------


async def fill(url: str, count: int) -> None:
    world = create_world(url)
    await world.backend.open()
    now = clock.SYSTEM_CLOCK.now()
    for start in range(0, count, 500):
        await asyncio.gather(
            *(
                world.backend.messages.enqueue(
                    NewMessage(
                        message_id=f"msg_{number:08}",
                        queue_name=FLOW,
                        payload=b"\x00",
                        max_attempts=3,
                        run_id=f"wrun_{number % (count // 4)}",
                        available_at=now,
                    )
                )
                for number in range(start, min(count, start + 500))
            )
        )
    await world.close()


async def take(url: str, opened: Barrier) -> list[str]:
    """Claim and settle until nothing is left; the ids that this process got, in order."""
    world = create_world(url)
    await world.backend.open()
    # Who opened first would else have taken all before another one is there.
    await asyncio.to_thread(opened.wait, PATIENCE_S)
    store, got, idle = world.backend.messages, list[str](), 0
    while idle < 20:
        claim = await store.claim(
            limit=20, lease=timedelta(minutes=10), serialize_runs=True, prefixes=None
        )
        if not claim.messages:
            idle += 1
            await asyncio.sleep(0.01)
            continue
        idle = 0
        got.extend(message.message_id for message in claim.messages)
        done = [
            (settle(one, Done(), now=clock.SYSTEM_CLOCK.now(), spread=0, limits=Limits()), None)
            for one in claim.messages
        ]
        assert all(await store.settle(done))
    await world.close()
    return got


def claims(url: str, count: str, processes: str) -> dict[str, int]:
    Child(lambda: fill(url, int(count))).end()
    opened = multiprocessing.get_context("fork").Barrier(int(processes))
    found = at_once(int(processes), lambda number: take(url, opened))
    ids = Counter(message_id for got in found for message_id in got)
    twice = sum(1 for times in ids.values() if times > 1)
    return {"taken": len(ids), "twice": twice, "busy": sum(1 for got in found if got)}


# --- workers that join ---------------------------------------------------------------------------

REPLAYS = 4


async def join_in(url: str, folder: Path, runs: int) -> int:
    """A worker until every run has ended. Returns: how often it met another holder of a run."""
    world = create_world(url, poll_interval_ms=20, concurrency=10)
    met = 0

    async def replay(message: object, **about: object) -> QueueContinuation | None:
        nonlocal met
        assert isinstance(message, dict)
        run_id = message["runId"]
        mark = folder / f"holder-{run_id}"
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            met += 1
            return None
        try:
            await asyncio.sleep(0.002)
            with (folder / f"replays-{run_id}").open("a") as replays:
                replays.write("x")
            count = (folder / f"replays-{run_id}").stat().st_size
            if count == REPLAYS:
                await world.events.create(run_id, event("run_completed", output=b""))
        finally:
            mark.unlink()
        return None if count >= REPLAYS else QueueContinuation(delay_seconds=0)

    world.create_queue_handler(FLOWS, replay)
    async with world:
        while True:
            page = await world.runs.list(status=["pending", "running"], limit=1)
            if not page.data:
                return met
            await asyncio.sleep(0.05)


def joining(url: str, folder: str, runs: str, workers: str) -> dict[str, int]:
    async def begin() -> None:
        world = create_world(url)

        async def one(number: int) -> None:
            run_id = f"wrun_{number}"
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id})

        await asyncio.gather(*map(one, range(int(runs))))
        await world.close()

    Child(begin).end()
    children: list[Child] = []
    for _ in range(int(workers)):
        children.append(Child(lambda: join_in(url, Path(folder), int(runs))))
        time.sleep(0.1)
    met = sum(child.end() for child in children)
    replays = [path.stat().st_size for path in Path(folder).glob("replays-*")]
    return {"met": met, "runs": len(replays), "replays": sum(replays)}


# --- processes that are ended --------------------------------------------------------------------


async def die(url: str) -> str:
    """A worker whose handler ends the process. Returns: how the run ended, once it has."""
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=300, max_deliveries=4)

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        if message["runId"] == "wrun_poison":
            os._exit(9)
        await world.events.create(message["runId"], event("run_completed", output=b""))

    world.create_queue_handler(FLOWS, handler)
    async with world:
        run = await world.runs.wait("wrun_poison", PATIENCE_S)
        await world.runs.wait("wrun_neighbour", PATIENCE_S)
    return f"{run.status} {run.error_code}"


def dying(url: str) -> dict[str, object]:
    """Processes one after the other, until one can say how the run has ended."""

    async def begin() -> None:
        world = create_world(url)
        for run_id in ("wrun_poison", "wrun_neighbour"):
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id})
        await world.close()

    Child(begin).end()
    for deaths in range(20):
        said = Child(lambda: die(url)).end(codes=(0, 9))
        if said is not None:
            return {"deaths": deaths, "said": said}
    return {"deaths": 20, "said": "nothing"}


ARRIVE, SLOW = 30, 10
"""Runs that are started before each signal, and runs that no signal lets end."""


async def serve_until_signal(url: str, grace: float, folder: Path | None) -> None:
    """A worker as an application has it: SIGTERM leaves ``async with``. Without a folder nothing is
    slow any more, and it serves until all is done."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    world = create_world(
        url, poll_interval_ms=20, shutdown_timeout_ms=int(grace * 1000), concurrency=10
    )

    async def write(run_id: str, kind: str, key: str | None = None, **data: object) -> None:
        with contextlib.suppress(EntityConflictError, RunExpiredError):  # by an earlier delivery
            await world.events.create(run_id, event(kind, key, **data))

    async def handler(message: object, **about: object) -> None:
        assert isinstance(message, dict)
        run_id = message["runId"]
        await write(run_id, "run_started")
        if folder is not None:
            (folder / "busy").touch()
        await asyncio.sleep(3600 if message["slow"] and folder is not None else 0.05)
        changes = [{"key": "k", "value": "v"}]
        await write(run_id, "attr_set", "once", changes=changes, writer={"type": "workflow"})
        await write(run_id, "run_completed", output=b"")

    world.create_queue_handler(FLOWS, handler)
    async with world:
        if folder is not None:
            await stop.wait()
        while folder is None:
            counts = (await world.messages.stats()).counts[FLOW]
            if {*counts} == {"completed"}:
                return
            await asyncio.sleep(0.05)


def terminating(url: str, folder: str, rounds: str, grace: str) -> dict[str, object]:
    """SIGTERM under load, again and again; then everything is served to its end.

    Returns: the longest time an exit took, in seconds, and how many messages were not given back.
    """

    async def load(name: str, count: int, slow: bool) -> None:
        world = create_world(url)
        for number in range(count):
            run_id = f"wrun_{name}_{number}"
            await world.events.create(run_id, created())
            await world.queue(FLOW, {"runId": run_id, "slow": slow})
        await world.close()

    async def held() -> int:
        world = create_world(url)
        counts = (await world.messages.stats()).counts[FLOW]
        await world.close()
        return counts.get("processing", 0)

    Child(lambda: load("slow", SLOW, True)).end()
    busy, longest, kept = Path(folder) / "busy", 0.0, 0
    for number in range(int(rounds)):
        Child(lambda name=f"{number}": load(name, ARRIVE, False)).end()
        child = Child(lambda: serve_until_signal(url, float(grace), Path(folder)))
        while not busy.exists():
            time.sleep(0.01)
        time.sleep(0.01 * (number % 10))
        os.kill(child.pid, signal.SIGTERM)
        since = time.monotonic()
        child.end()
        longest = max(longest, time.monotonic() - since)
        kept += Child(held).end()
        busy.unlink(missing_ok=True)
    Child(lambda: serve_until_signal(url, float(grace), None)).end()
    return {"longest": longest, "kept": kept, "runs": SLOW + ARRIVE * int(rounds)}


# --- clocks and long steps -----------------------------------------------------------------------


async def work_with_a_wrong_clock(url: str, seconds: float, folder: Path) -> list[list[Any]]:
    """A worker on a machine whose clock is wrong. Returns: when it began which message."""

    class WrongClock(clock.SystemClock):
        def now(self) -> Any:
            return super().now() + timedelta(seconds=seconds)

    clock.SYSTEM_CLOCK.__class__ = WrongClock
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=1500)
    began: list[list[Any]] = []

    async def handler(message: object, *, attempt: int, **about: object) -> Any:
        assert isinstance(message, dict)
        began.append([message["runId"], time.time()])
        if message["runId"] == "wrun_long":
            await asyncio.sleep(5)
        elif message["runId"] == "wrun_again" and not (folder / "again").exists():
            (folder / "again").touch()
            return QueueContinuation(delay_seconds=1.5)
        elif message["runId"] == "wrun_retry" and attempt == 1:
            raise RuntimeError("once")
        return None

    world.create_queue_handler(FLOWS, handler)
    async with world:
        while not (folder / "over").exists():  # noqa: ASYNC110  # a file ends it
            await asyncio.sleep(0.02)
    return began


def skewed(url: str, folder: str, *offsets: str) -> dict[str, list[float]]:
    """Workers whose clocks are off by so many seconds. Returns: when each message was begun."""
    children = [
        Child(lambda by=float(offset): work_with_a_wrong_clock(url, by, Path(folder)))
        for offset in offsets
    ]

    async def send() -> dict[str, float]:
        world = create_world(url)
        sent = {}
        for run_id, delay in (("long", 0), ("later", 1.5), ("again", 0), ("retry", 0)):
            sent[f"wrun_{run_id}"] = time.time()
            await world.queue(FLOW, {"runId": f"wrun_{run_id}"}, delay_seconds=delay)
        while set((await world.messages.stats()).counts[FLOW]) != {"completed"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (Path(folder) / "over").touch()
        await world.close()
        return sent

    sent = Child(send).end()
    began: dict[str, list[float]] = {}
    for child in children:
        for run_id, at in child.end():
            began.setdefault(run_id, []).append(at - sent[run_id])
    return {run_id: sorted(times) for run_id, times in began.items()}


async def work_hard(url: str, folder: Path, leases: float) -> int:
    """A worker whose step holds up the event loop. Returns: how many it executed."""
    world = create_world(url, poll_interval_ms=20, lock_duration_ms=1500)
    executed = 0

    async def handler(message: object, **about: object) -> None:
        nonlocal executed
        assert isinstance(message, dict)
        executed += 1
        if message["how"] == "blocking":
            time.sleep(leases)  # noqa: ASYNC251  # that is the point
            return
        end = time.monotonic() + leases
        while time.monotonic() < end:
            sum(range(10_000))

    world.create_queue_handler(STEPS, handler)
    async with world:
        while not (folder / "over").exists():  # noqa: ASYNC110  # a file ends it
            await asyncio.sleep(0.02)
    return executed


def hard(url: str, folder: str, count: str) -> dict[str, int]:
    """Two workers, and steps that are three leases long. Returns: how many were executed."""
    children = [Child(lambda: work_hard(url, Path(folder), 4.5)) for _ in range(2)]

    async def send() -> int:
        world = create_world(url)
        for number in range(int(count)):
            how = "blocking" if number % 2 else "computing"
            step = {"runId": "wrun_1", "stepId": f"step_{number}", "how": how}
            await world.queue(f"{STEPS}s", step)
        queue = f"{STEPS}s"
        while set((await world.messages.stats()).counts[queue]) != {"completed"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        (Path(folder) / "over").touch()
        page = await world.messages.list(limit=1000)
        await world.close()
        return sum(message.deliveries for message in page.data)

    deliveries = Child(send).end()
    return {"executed": sum(child.end() for child in children), "deliveries": deliveries}


COMMANDS: dict[str, Callable[..., Any]] = {
    "races": races,
    "claims": claims,
    "joining": joining,
    "dying": dying,
    "terminating": terminating,
    "skewed": skewed,
    "hard": hard,
}


if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])), flush=True)  # noqa: T201
