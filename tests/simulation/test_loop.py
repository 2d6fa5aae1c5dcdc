"""The simulation's own parts: what it schedules, kills, and takes for a violation."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count
from random import Random

import pytest

from workflow_world.backend import Lease

from .clock import START, SimulatedClock
from .ledger import Ledger
from .loop import SimulatedLoop
from .processes import Process, Stuck, within


def loop_of(seed: int = 1, *, max_steps: int = 1000) -> SimulatedLoop:
    return SimulatedLoop(Random(seed), shuffled=True, step_s=0, max_steps=max_steps, kept=None)


def test_time_jumps_to_the_next_timer() -> None:
    loop = loop_of()
    clock = SimulatedClock(loop)

    async def nap() -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert loop.run(nap()) == 3600
    assert clock.now() == START + timedelta(hours=1)
    loop.close()


def test_seeds_choose_the_order() -> None:
    def order(seed: int) -> list[int]:
        found: list[int] = []
        loop = loop_of(seed)

        async def note(number: int) -> None:
            found.append(number)

        async def main() -> None:
            await asyncio.gather(*(note(number) for number in range(6)))

        loop.run(main())
        loop.close()
        return found

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(10)}) > 5


def test_a_killed_process_never_goes_on_and_lets_go() -> None:
    loop, process, found = loop_of(), Process("one"), list[str]()
    process.at_end.append(lambda: found.append("closed"))

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            found.append("worked")
        finally:
            found.append("unwound")

    async def main() -> None:
        loop.create_task(work(), context=within(process))
        await asyncio.sleep(0.5)
        loop.kill(process)
        await asyncio.sleep(5)

    loop.run(main())
    loop.close()
    assert found == ["unwound", "closed"]


def test_a_paused_process_stands_still_and_a_busy_one_has_its_threads() -> None:
    loop, process, found = loop_of(), Process("one"), list[str]()
    clock = SimulatedClock(loop)

    async def work() -> None:
        clock.every(1, lambda: found.append("beat"), name="a-heartbeat")
        await asyncio.sleep(1)
        found.append("worked")

    async def main() -> None:
        loop.create_task(work(), context=within(process))
        await asyncio.sleep(0.5)
        process.busy = True
        await asyncio.sleep(2)
        assert found == ["beat"] * 2
        process.busy, process.paused = False, True
        await asyncio.sleep(10)
        assert found == ["beat"] * 2
        process.paused = False
        await asyncio.sleep(0.4)
        assert found.count("worked") == 1

    loop.run(main())
    loop.close()


def test_nothing_to_do_and_no_end_are_named() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def spin() -> None:
        for _ in count():
            await asyncio.sleep(0)

    for main, text in ((wait, "nothing is ready"), (spin, "no end after 1000 steps")):
        loop = loop_of()
        with pytest.raises(Stuck, match=text):
            loop.run(main())
        loop.close()


def test_the_ledger_names_what_must_not_be() -> None:
    one, two, ledger = Process("one"), Process("two"), Ledger()
    until = START + timedelta(seconds=10)
    ledger.look({"m": ("a", until, None)}, one, START)
    assert ledger.holds(Lease(message_id="m", token="a"))  # noqa: S106
    ledger.look({"m": ("b", until, None)}, two, START)
    assert ledger.violations == [f"message m: two ended the live lease of one until {until}"]
    assert not ledger.holds(Lease(message_id="m", token="a"))  # noqa: S106
    ledger.look({"m": ("b", until + timedelta(seconds=1), None)}, one, START)
    assert ledger.violations[1:] == ["message m: one moved the lease of two"]
    ledger.look({}, one, until + timedelta(seconds=1))
    assert len(ledger.violations) == 2, "an expired lease may be ended by anybody"


def test_the_ledger_knows_who_replays_a_run() -> None:
    ledger, until = Ledger(serialized=True), START + timedelta(seconds=10)
    ledger.look({"m": ("a", until, "run")}, Process("one"), START)
    ledger.look({"m": ("a", until, "run"), "n": ("b", until, "run")}, Process("two"), START)
    assert ledger.violations == ["message n: run is being replayed by one"]
    ledger = Ledger(serialized=True)
    one = Process("one")
    ledger.look({"n": ("a", until, "run")}, one, START)
    ledger.settling("a")
    ledger.look({"m": ("b", until, "run"), "n": (None, None, "run")}, one, START)
    assert ledger.violations == [], "one commit ends a lease and begins the next"
