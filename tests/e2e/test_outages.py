"""The server dies, or the network in between misbehaves, again and again under load: every run ends
with its result, no worker dies, and the log says so without filling the disk."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Starter, Workers, check_everything
from postgres.proxy import Proxy
from servers.postgres import Postgres
from servers.sqld import Sqld

from workflow_world import World, create_world
from workflow_world.sql import migrate

SECONDS = float(os.environ.get("CHAOS_OUTAGES_S", "0"))
"""0: each kind of disaster once, a second apart; else so long, 5 to 20 s apart."""
RUNS = 4 if SECONDS else 2
NAMES = ("one", "two")
LINE = re.compile(r"^(\d+) \S+ (workflow_world\.\w+) (.*)$", re.MULTILINE)
IDS = re.compile(r"\b(?:msg|wrun)_\w+")

Disaster = Callable[[], None]

pytestmark = pytest.mark.timeout(300 + 3 * SECONDS)


@dataclass
class Own:
    """A server of the test's own.

    Attributes:
        disasters: what happens to the whole of it.
        options: of the Worlds, so that silence is noticed soon.
        commit: how a COMMIT looks on its way.
    """

    url: str
    port: int
    disasters: list[Disaster]
    options: str
    commit: bytes


@pytest.fixture(params=["postgres", "libsql"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Own]:
    def restarted(end: Disaster) -> Disaster:
        def disaster() -> None:
            end()
            server.start()

        return disaster

    if request.param == "postgres":
        with Postgres() as server:
            options, commit = '{"statement_timeout_ms": 2000}', b"COMMIT\0"
            disasters = [restarted(server.kill), restarted(server.stop), server.crash]
            found = Own(server.url(), server.port, disasters, options, commit)
            migrate.upgrade(found.url, environ={})
            yield found
        return
    with Sqld(tmp_path / "server") as server:
        options, commit = '{"request_timeout_ms": 2000}', b'"COMMIT"'
        disasters = [restarted(server.kill), restarted(server.stop)]
        found = Own(server.url, server.port, disasters, options, commit)
        migrate.upgrade(found.url, environ={})
        yield found


def play(url: str, options: str, folder: Path, disasters: list[Disaster], seed: int) -> None:
    """Two workers, and new runs before and during each disaster; then everything is proved."""
    chance = random.Random(seed)  # noqa: S311
    began = time.monotonic()
    with (
        Starter(url, folder, OPTIONS=options, IN_FLIGHT="24") as starter,
        Workers(url, folder, OPTIONS=options) as workers,
    ):
        for name in NAMES:
            workers.start(name)
        pids = [workers.pid(name) for name in NAMES]
        for pause, disaster in schedule(disasters, chance):
            soon = time.monotonic() + pause
            while time.monotonic() < soon:
                starter.start(RUNS)
                time.sleep(min(pause, 1))
            starter.say(str(RUNS))  # which meets the disaster
            disaster()
            starter.answer()
        results = starter.results(timeout=120)
        for pid in pids:
            os.kill(pid, 0)  # raises when it died
        asyncio.run(until_all_ended(url, results))
        asyncio.run(check_everything(url, results, folder))
        check_the_output(workers.errors.read_text(), time.monotonic() - began)
        refused = starter.errors.read_text().count("not started")
        print(f"{len(results)} runs, {refused} refused")  # noqa: T201


def schedule(disasters: list[Disaster], chance: random.Random) -> Iterator[tuple[float, Disaster]]:
    """Each disaster, and how long it is quiet before."""
    if not SECONDS:
        for one in chance.sample(disasters, len(disasters)):
            yield chance.uniform(0.3, 1), one
        return
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield chance.uniform(5, 20), chance.choice(disasters)


async def until_all_ended(url: str, results: Container[str]) -> None:
    """Also those whose start was refused, though it was stored. Nobody knows of them, so when they
    wait for a hook they are cancelled."""
    world = create_world(url)
    try:
        async with asyncio.timeout(60):
            while await unfinished(world):
                for hook in (await world.hooks.list()).data:
                    if hook.run_id not in results:
                        await world.runs.cancel(hook.run_id)
                await asyncio.sleep(0.1)
    finally:
        await world.close()


async def unfinished(world: World) -> bool:
    runs = [await world.runs.list(status=status) for status in ("pending", "running")]
    stats = await world.messages.stats()
    statuses = {status for counts in stats.counts.values() for status in counts}
    return any(page.data for page in runs) or bool({"pending", "processing"} & statuses)


def check_the_output(text: str, seconds: float) -> None:
    """No traceback, and no loop of a worker says more than a line a second: a delivery is a loop,
    and so are claims, heartbeats and upkeep."""
    assert "Traceback" not in text, text[-6000:]
    said = Counter(
        (pid, logger, "".join(IDS.findall(line))) for pid, logger, line in LINE.findall(text)
    )
    print(f"{said.total()} lines in {seconds:.0f} s")  # noqa: T201
    assert all(count <= seconds for count in said.values()), said.most_common(3)


def test_a_server_that_is_restarted(own: Own, tmp_path: Path, seed: int) -> None:
    play(own.url, own.options, tmp_path, own.disasters, seed)


def test_a_network_that_misbehaves(own: Own, tmp_path: Path, seed: int) -> None:
    with Proxy(own.port, commit=own.commit) as proxy:

        def slow() -> None:
            proxy.delay_s = 0.5
            time.sleep(2)
            proxy.delay_s = 0

        def commits_lost() -> None:
            proxy.cut("after", 5)
            proxy.cut("before", 5)
            proxy.cut("reset", 5)

        url = own.url.replace(str(own.port), str(proxy.port))
        disasters = [proxy.cut_all, proxy.reset_all, commits_lost, slow, proxy.half_open]
        play(url, own.options, tmp_path, disasters, seed)
