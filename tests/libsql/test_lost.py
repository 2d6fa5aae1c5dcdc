"""Answers that are lost: before COMMIT, during it, and with the whole server."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest
from hrana.proxy import Fault, Proxy
from postgres import proxy as tcp
from postgres.helpers import QUEUE, create_run, event, eventually, log_of
from servers.sqld import Sqld

from workflow_world import World, hrana
from workflow_world.errors import BackendError
from workflow_world.sql import outages

from .conftest import MakeWorld, Spawn

pytestmark = pytest.mark.anyio

CUTS: tuple[Fault, ...] = ("cut",) * 1000
"""Until they are cleared."""


@pytest.mark.parametrize("fault", ["cut", "lose", "truncate", "html", "garbage", "status 502"])
async def test_the_outcome_of_a_lost_commit_is_found_out(
    far: World, proxy: Proxy, fault: str
) -> None:
    """Whether the server had it or not: the caller hears of one success, and it is there once.

    Each write is two requests; COMMIT is in the second.
    """
    commit = ("pass", fault)
    proxy.faults.extend(commit)  # type: ignore[arg-type]
    await create_run(far, "wrun_1")
    proxy.faults.extend(("pass", *commit))  # type: ignore[arg-type]
    await far.events.create("wrun_1", event("run_started"))
    proxy.faults.extend(commit)  # type: ignore[arg-type]
    await far.streams.write("wrun_1", "out", b"x")
    proxy.faults.extend(commit)  # type: ignore[arg-type]
    message_id = await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
    assert not proxy.faults
    assert [kind for kind, _ in await log_of(far, "wrun_1")] == ["run_created", "run_started"]
    assert (await far.streams.get_info("wrun_1", "out")).tail_index == 0
    found = await far.backend.messages.list_messages(
        status=None, run_id=None, queue_name=None, after=None, limit=9
    )
    assert [one.message_id for one in found] == [message_id]


@pytest.mark.parametrize("fault", ["cut", "lose"])
async def test_a_commit_of_nothing_may_be_lost(far: World, proxy: Proxy, fault: str) -> None:
    """The key is held already: nothing was written, so there is nothing to be in doubt about."""
    first = await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
    proxy.faults.extend(("pass", fault))  # type: ignore[arg-type]
    assert await far.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k") == first
    assert not proxy.faults


@pytest.mark.parametrize(
    "fault", ["cut", "lose", "truncate", "status 408", "status 429", "status 502"]
)
async def test_what_is_lost_before_the_commit_is_done_again(
    far: World, proxy: Proxy, fault: str
) -> None:
    proxy.faults.append(fault)  # type: ignore[arg-type]
    await create_run(far, "wrun_1")
    proxy.faults.append(fault)  # type: ignore[arg-type]
    assert await log_of(far, "wrun_1") == [("run_created", None)]


async def test_a_transaction_that_the_server_undid_is_done_again(far: World, proxy: Proxy) -> None:
    """As a server does that gives the lock to somebody else."""
    proxy.faults.append("undone")
    await create_run(far, "wrun_1")
    assert await log_of(far, "wrun_1") == [("run_created", None)]


async def test_what_is_lost_late_is_done_again(
    far: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock is taken away after five seconds: patience only begins then."""
    monkeypatch.setattr(outages, "PATIENCE_S", 0.2)
    proxy.delay = 0.3
    proxy.faults.append("undone")
    await create_run(far, "wrun_1")
    proxy.faults.append("cut")
    assert await log_of(far, "wrun_1") == [("run_created", None)]


async def test_commit_never_travels_with_its_begin(far: World, proxy: Proxy) -> None:
    """Else nobody could say that it will not run later. See ``Transactions._find_out``."""
    await create_run(far, "wrun_1")
    await far.queue(QUEUE, {"runId": "wrun_1"})
    await far.streams.write("wrun_1", "out", b"x")
    writes = [sent for sent in proxy.sent() if "COMMIT" in sent and "BEGIN DEFERRED" not in sent]
    assert len(writes) == 3
    assert not any(text.startswith("BEGIN") for sent in writes for text in sent)


async def test_a_step_event_is_two_round_trips(far: World, proxy: Proxy) -> None:
    await create_run(far, "wrun_1")
    for kind in ("step_created", "step_started", "step_completed"):
        proxy.bodies.clear()
        data = {"stepName": "s", "input": 1} if kind == "step_created" else {}
        await far.events.create("wrun_1", event(kind, "s", **data))
        assert len(proxy.bodies) == 2


async def test_a_claim_is_two_round_trips(far: World, proxy: Proxy) -> None:
    await far.queue(QUEUE, {"runId": "wrun_1"})
    proxy.bodies.clear()
    claim = await far.backend.messages.claim(
        limit=5, lease=timedelta(seconds=30), serialize_runs=True, prefixes=None
    )
    assert len(claim.messages) == 1
    assert len(proxy.bodies) == 2


async def test_what_nothing_proves_is_an_unknown_outcome(far: World, proxy: Proxy) -> None:
    """A deletion leaves no row to look for."""
    message_id = await far.queue(QUEUE, {"runId": "wrun_1"})
    proxy.faults.extend(("pass", "lose"))
    with pytest.raises(BackendError, match="COMMIT") as caught:
        await far.backend.messages.delete(message_id)
    assert caught.value.code == "UNKNOWN_OUTCOME"
    assert await far.backend.messages.get_message(message_id) is None


async def test_commits_that_are_reset_are_found_out(
    make_world: MakeWorld, server: Sqld, url: str
) -> None:
    """The connection breaks once the server was sent COMMIT, whatever it makes of it."""
    with tcp.Proxy(server.port, commit=b'"COMMIT"') as broken:
        world = make_world(url.replace(str(server.port), str(broken.port)))
        await world.backend.open()
        broken.cut("reset")
        await create_run(world, "wrun_1")
        broken.cut("reset")
        await world.events.create("wrun_1", event("run_started"))
        broken.cut("reset")
        await world.streams.write("wrun_1", "out", b"x")
        broken.cut("reset")
        message_id = await world.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
        assert not broken.pending
        broken.reset_all()
        assert [kind for kind, _ in await log_of(world, "wrun_1")] == ["run_created", "run_started"]
        assert (await world.streams.get_info("wrun_1", "out")).tail_index == 0
        page = await world.messages.list()
        assert [one.message_id for one in page.data] == [message_id]
        broken.cut("reset", 3)
        await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in range(2, 40)))
        for number in range(2, 40):
            assert await log_of(world, f"wrun_{number}") == [("run_created", None)]


async def test_a_whole_batch_is_found_out(far: World, proxy: Proxy) -> None:
    proxy.faults.extend(("pass", "lose", "pass", "pass", "pass", "cut", "pass", "pass", "cut"))
    await asyncio.gather(*(create_run(far, f"wrun_{number}") for number in range(40)))
    proxy.faults.clear()
    for number in range(40):
        assert await log_of(far, f"wrun_{number}") == [("run_created", None)]


async def test_one_failing_operation_fails_alone(world: World, url: str) -> None:
    """A row that the database refuses: its neighbours in the batch are written."""
    await create_run(world, "wrun_1")
    with contextlib.closing(hrana.connect(url)) as rival:
        rival.execute(
            "CREATE TRIGGER no_two BEFORE INSERT ON workflow_runs WHEN NEW.run_id = 'wrun_bad' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        try:
            done = await asyncio.gather(
                *(create_run(world, f"wrun_{name}") for name in ("a", "bad", "b", "c")),
                return_exceptions=True,
            )
        finally:
            rival.execute("DROP TRIGGER no_two")
    assert [isinstance(one, BackendError) for one in done] == [False, True, False, False]
    for name in ("a", "b", "c"):
        assert await log_of(world, f"wrun_{name}") == [("run_created", None)]


async def test_what_was_undone_proves_nothing(far: World, proxy: Proxy, url: str) -> None:
    """The first of a batch fails, the others are committed, and the answer to that is lost."""
    others = ["wrun_c1", "wrun_c2", "wrun_c3"]  # a batch is in the order of its runs
    with contextlib.closing(hrana.connect(url)) as rival:
        rival.execute(
            "CREATE TRIGGER no_two BEFORE INSERT ON workflow_runs WHEN NEW.run_id = 'wrun_bad' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        proxy.delay = 0.3  # the others gather while this one is under way
        opening = asyncio.create_task(create_run(far, "wrun_1"))
        await eventually(lambda: bool(proxy.bodies))
        proxy.lone_commits.append("lose")
        try:
            done = await asyncio.gather(
                far.runs.create(workflow_name="w", run_id="wrun_bad"),
                *(create_run(far, run) for run in others),
                return_exceptions=True,
            )
        finally:
            rival.execute("DROP TRIGGER no_two")
    assert not proxy.lone_commits
    assert [isinstance(one, BackendError) for one in done] == [True, False, False, False]
    await opening
    for run in ("wrun_1", *others):
        assert await log_of(far, run) == [("run_created", None)]
    assert await log_of(far, "wrun_bad") == []


async def test_another_ones_event_proves_nothing(far: World, world: World, proxy: Proxy) -> None:
    """The COMMIT was never sent on, and somebody else's event has its place and its id."""
    created = event("run_created", deploymentId="d", workflowName="greet", input=1)
    await far.events.create("wrun_1", {**created, "specVersion": 6})
    proxy.bodies.clear()
    proxy.faults.extend(("pass", "cut", "pass", *CUTS))
    ours = {**event("step_created", "ours", stepName="s", input=1), "specVersion": 6}
    writing = asyncio.create_task(far.events.create("wrun_1", ours))
    await eventually(lambda: len(proxy.bodies) > 3)
    theirs = {**event("step_created", "theirs", stepName="s", input=1), "specVersion": 6}
    first = await world.events.create("wrun_1", theirs)
    proxy.faults.clear()
    second = await writing
    assert (first.event.event_id, second.event.event_id) == tuple(
        one.event_id for one in (await world.events.list("wrun_1")).data[1:]
    )
    assert await log_of(world, "wrun_1") == [
        ("run_created", None),
        ("step_created", "theirs"),
        ("step_created", "ours"),
    ]


async def test_a_lease_that_is_over_proves_nothing(far: World, world: World, proxy: Proxy) -> None:
    """A claim was committed, and another worker has its message by now: it may not be known as
    not applied, or what came with it would be done twice."""
    await far.queue(QUEUE, {"runId": "wrun_1"})
    terms: dict[str, Any] = {"serialize_runs": True, "prefixes": None, "limit": 1}
    proxy.bodies.clear()
    proxy.faults.extend(("pass", "lose", "pass", *CUTS))
    claiming = asyncio.create_task(
        far.backend.messages.claim(lease=timedelta(milliseconds=1), **terms)
    )
    await eventually(lambda: len(proxy.bodies) > 3)
    rival = await world.backend.messages.claim(lease=timedelta(seconds=30), **terms)
    assert len(rival.messages) == 1
    proxy.faults.clear()
    with pytest.raises(BackendError) as caught:
        await claiming
    assert caught.value.code == "UNKNOWN_OUTCOME"


async def test_a_read_whose_answer_is_lost_is_made_again(far: World, proxy: Proxy) -> None:
    """``run_started`` first looks whether there is anything to write."""
    await create_run(far, "wrun_1")
    proxy.faults.append("lose")
    await far.events.create("wrun_1", event("run_started"))
    assert not proxy.faults


@pytest.mark.parametrize("fault", ["status 401", "status 404", "status 308"])
async def test_a_server_that_refuses_an_open_world(far: World, proxy: Proxy, fault: str) -> None:
    """Such as when its token has expired: everybody hears of it, and nothing is sent for ever."""
    await create_run(far, "wrun_0")
    proxy.faults.extend([fault] * 100)  # type: ignore[list-item]
    steps = (event("step_created", f"s{number}", stepName="s", input=1) for number in range(20))
    done = await asyncio.wait_for(
        asyncio.gather(
            *(far.events.create("wrun_0", step) for step in steps), return_exceptions=True
        ),
        60,
    )
    assert all(isinstance(one, BackendError) for one in done), done
    assert ("auth_token" in str(done[0])) == (fault == "status 401")
    assert len(proxy.faults) >= 90
    proxy.faults.clear()
    # Within a transaction, too: its next request is refused.
    proxy.faults.extend(("pass", *[fault] * 50))  # type: ignore[arg-type]
    with pytest.raises(BackendError):
        await far.queue(QUEUE, {"runId": "wrun_0"})
    assert len(proxy.faults) >= 40
    proxy.faults.clear()
    await create_run(far, "wrun_after")
    assert await log_of(far, "wrun_0") == [("run_created", None)]


async def test_tables_that_are_gone(world: World, url: str) -> None:
    """Whoever needs them hears of it; the others in the batch, and later ones, go on."""
    await create_run(world, "wrun_1")
    with contextlib.closing(hrana.connect(url)) as rival:
        rival.execute("ALTER TABLE workflow_steps RENAME TO gone")
        try:
            done = await asyncio.wait_for(
                asyncio.gather(
                    *(
                        world.events.create(
                            "wrun_1", event("step_created", one, stepName="s", input=1)
                        )
                        for one in ("a", "b")
                    ),
                    world.queue(QUEUE, {"runId": "wrun_1"}),
                    return_exceptions=True,
                ),
                60,
            )
        finally:
            rival.execute("ALTER TABLE gone RENAME TO workflow_steps")
    assert [isinstance(one, BackendError) for one in done] == [True, True, False]
    assert "db upgrade" in str(done[0])
    await world.events.create("wrun_1", event("step_created", "c", stepName="s", input=1))


async def test_a_server_that_falls_silent(make_world: MakeWorld, server: Sqld, url: str) -> None:
    """Nothing is answered and nothing is closed. It is noticed once: the other connections are
    given up, too, before anybody waits for one of them."""
    with tcp.Proxy(server.port) as proxy:
        world = make_world(url.replace(str(server.port), str(proxy.port)), request_timeout_ms=1000)
        await create_run(world, "wrun_1")
        for number in range(2):
            await asyncio.gather(*(log_of(world, "wrun_1") for _ in range(20)))
            assert proxy.connections > 2
            proxy.unheard = 0
            proxy.half_open()
            await world.events.create(
                "wrun_1", event("step_created", f"s{number}", stepName="s", input=1)
            )
            logs = await asyncio.gather(*(log_of(world, "wrun_1") for _ in range(20)))
            assert {len(log) for log in logs} == {number + 2}
            assert proxy.unheard == 1


# --- the whole server ------------------------------------------------------------------------


@pytest.mark.timeout(240)
async def test_a_server_that_is_killed_loses_nothing_acknowledged(
    own: Sqld, make_world: MakeWorld, spawn: Spawn
) -> None:
    """SIGKILL of the server three times in the middle of writes, and it starts again."""
    world = make_world(own.url)
    await world.backend.open()
    acknowledged: list[str] = []
    failures: list[str] = []
    children = [spawn("write", own.url, str(number)) for number in range(2)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"

    def follow(child: object) -> None:
        for line in child.process.stdout:  # type: ignore[attr-defined]
            (failures if line.startswith("lost ") else acknowledged).append(line.strip())

    followers = [asyncio.create_task(asyncio.to_thread(follow, child)) for child in children]
    for child in children:
        child.go()
    for _ in range(3):
        before = len(acknowledged)
        await eventually(lambda before=before: len(acknowledged) > before + 20)
        await asyncio.to_thread(own.kill)
        await asyncio.to_thread(own.start)
    before = len(acknowledged)
    await eventually(lambda: len(acknowledged) > before + 20)
    for child in children:
        child.process.kill()
    await asyncio.gather(*followers)

    with contextlib.closing(hrana.connect(own.url)) as reader:
        found = set(reader.execute("SELECT run_id, event_type FROM workflow_events").fetchall())
        gaps = reader.execute(
            "SELECT run_id FROM workflow_events GROUP BY run_id HAVING max(position) <> count(*)"
        ).fetchall()
    for line in acknowledged:
        run_id, kind = line.split()
        assert (run_id, kind) in found
    assert gaps == []
    assert {line.split()[1] for line in failures} <= {"Unreachable", "BackendError"}
    await create_run(world, "wrun_after")


async def test_a_server_that_is_away_is_one_clear_error_and_comes_back(
    own: Sqld, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(own.url)
    await create_run(world, "wrun_1")
    own.stop()
    monkeypatch.setattr(outages, "PATIENCE_S", 0.2)
    with pytest.raises(BackendError, match=r"libSQL: .* cannot be reached") as caught:
        await create_run(world, "wrun_2")
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError):
        await world.runs.get("wrun_1")
    own.start()
    await create_run(world, "wrun_2")
    assert (await world.runs.get("wrun_1")).run_id == "wrun_1"


async def test_reads_and_writes_wait_for_a_server_that_is_restarted(
    own: Sqld, make_world: MakeWorld
) -> None:
    world = make_world(own.url)
    await create_run(world, "wrun_1")
    own.stop()
    write = asyncio.create_task(create_run(world, "wrun_2"))
    read = asyncio.create_task(world.runs.get("wrun_1"))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(own.start)
    await asyncio.gather(write, read)
