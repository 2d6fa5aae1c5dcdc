"""Two applications in one database, with the same names for everything: nothing of one is ever
seen by the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from workflow_world.check import check
from workflow_world.codec import decode

from .conftest import MakeWorld
from .helpers import LONG, not_on_libsql
from .side import Side, go

pytestmark = pytest.mark.anyio

RUNS = 1_000 if LONG else 12


SIGNED_BY_RUN = 9
"""Input, output and attribute; of the log input, step's input and result, payload; step's input and
output; and at least one chunk makes ten, which may be more when a delivery comes again."""


async def verify(sides: Sequence[Side], numbers: Sequence[int]) -> None:
    for side in sides:
        assert {who for who, times in side.seen.items() if times} == {side.name}
        signed = await side.signatures(numbers)
        assert set(signed) == {side.name}
        assert signed[side.name] > SIGNED_BY_RUN * len(numbers)
        assert not (await check(side.world)).findings


@pytest.mark.parametrize(
    ("engine", "option"),
    [
        ("sqlite", "table_prefix"),
        ("postgres", "table_prefix"),
        ("postgres", "schema"),
        ("libsql", "table_prefix"),
    ],
)
async def test_two_sets_of_tables_in_one_database(
    request: pytest.FixtureRequest, make_world: MakeWorld, engine: str, option: str
) -> None:
    """The same ids, tokens, keys, queues and streams in both."""
    url = request.getfixturevalue(f"{engine}_url")
    bystander = make_world(url)  # the tables without a prefix, which both leave alone
    sides = [Side(make_world(url, **{option: f"{name}_"}), name) for name in ("one", "two")]
    numbers = range(RUNS)
    await go(sides, numbers, forgotten=False)
    await verify(sides, numbers)
    for side in sides:
        messages, cursor = list[Any](), None
        while not messages or cursor is not None:
            page = await side.world.messages.list(limit=1000, cursor=cursor)
            messages, cursor = [*messages, *page.data], page.cursor
        assert {decode(one.payload)["by"] for one in messages} == {side.name}
        # One to begin, one for the step, one behind the step, one behind the hook.
        assert len(messages) == 4 * len(numbers)
        assert len((await side.world.runs.list(limit=1000)).data) == len(numbers)
    assert not (await bystander.runs.list()).data
    assert not (await bystander.messages.list()).data


@not_on_libsql
@pytest.mark.parametrize("forgotten", [False, True], ids=["sent", "found by the sweep"])
async def test_two_queue_namespaces_in_the_same_tables(
    url: str, make_world: MakeWorld, forgotten: bool
) -> None:
    """The same workflow, step and stream. Run ids, tokens and keys are of the database. Either
    worker's sweep finds the runs of both, and sends each to its own queue."""
    sides = [
        Side(
            make_world(url, recovery_grace_ms=0, poll_interval_ms=90 + number),
            name,
            namespace=f"{name}_",
            suffix=f"_{name}",
        )
        for number, name in enumerate(("blue", "green"))
    ]
    numbers = range(RUNS)
    await go(sides, numbers, forgotten=forgotten)
    await verify(sides, numbers)
