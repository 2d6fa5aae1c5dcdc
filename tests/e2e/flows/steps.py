"""Steps in sequence, in parallel, and mixed; arguments and results of several types."""

from __future__ import annotations

import asyncio
from collections import Counter

from pydantic import BaseModel
from vercel.workflow import Workflows, start

from workflow_world import World

from .common import events_of, result_of

workflows = Workflows()
effects: Counter[str] = Counter()


class Order(BaseModel):
    number: int
    note: str | None = None
    blob: bytes


@workflows.step
async def add(left: int, right: int) -> int:
    effects[f"add {left} {right}"] += 1
    return left + right


@workflows.step
async def touch(order: Order) -> Order:
    return order.model_copy(update={"number": order.number + 1})


@workflows.step
async def nothing() -> None:
    return None


@workflows.workflow
async def chain(length: int) -> int:
    total = 0
    for number in range(length):
        total = await add(total, number)
    return total


@workflows.workflow
async def diamond(order: Order) -> tuple[Order, int, None]:
    touched, total, none = await asyncio.gather(touch(order), add(20, 22), nothing())
    return await touch(touched), total, none


@workflows.workflow
async def fan_out(width: int) -> int:
    return sum(await asyncio.gather(*(add(number, 1000) for number in range(width))))


async def scenario(world: World) -> None:
    run = await start(chain, 10)
    assert await result_of(world, run) == 45
    assert set(effects.values()) == {1}
    started = await events_of(world, run, "run_started")
    assert len(started) == 1, "a delivery on a running run writes nothing"

    order = Order(number=1, blob=b"\0\xff")
    touched, total, none = await result_of(world, await start(diamond, order))
    assert touched == order.model_copy(update={"number": 3})
    assert (total, none) == (42, None)

    effects.clear()
    run = await start(fan_out, 110)
    assert await result_of(world, run) == 110 * 1000 + sum(range(110))
    assert len(effects) == 110
    assert set(effects.values()) == {1}, "each body ran once"
    for event_type in ("step_created", "step_started", "step_completed"):
        assert len(await events_of(world, run, event_type)) == 110
