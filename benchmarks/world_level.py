"""Single operations of a World, each workload on a store of its own."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from .plan import Sizes
from .stores import PAYLOAD, Store

Figures = dict[str, float]
CHUNK = b"c" * 1_000
PAUSES_S = (0.02, 0.06)
"""Of different lengths, so that no poll falls into step with the caller."""
_TIMEOUT_S = 120.0


def run_id(number: int) -> str:
    return f"wrun_{number:026d}"


async def step(store: Store, run: str, step_id: str) -> None:
    """Created, started, completed."""
    await store.create_step(run, step_id)
    await store.start_step(run, step_id)
    await store.complete_step(run, step_id)


async def step_events_1(store: Store, sizes: Sizes) -> Figures:
    """Created, started, completed: one caller, one run."""
    await store.start_run(run_id(0))
    began = time.perf_counter()
    for number in range(sizes.steps_alone):
        await step(store, run_id(0), f"step_{number:06d}")
    return {"step_events_1": 3 * sizes.steps_alone / (time.perf_counter() - began)}


async def step_events_50(store: Store, sizes: Sizes) -> Figures:
    """The same from many callers at once, each with a run of its own."""
    for caller in range(sizes.callers):
        await store.start_run(run_id(caller))

    async def call(caller: int) -> None:
        for number in range(sizes.steps_each):
            await step(store, run_id(caller), f"step_{caller}_{number}")

    began = time.perf_counter()
    await asyncio.gather(*map(call, range(sizes.callers)))
    events = 3 * sizes.callers * sizes.steps_each
    return {"step_events_50": events / (time.perf_counter() - began)}


async def enqueue_50(store: Store, sizes: Sizes) -> Figures:
    """Messages from many callers at once; nobody takes them."""
    await store.enqueue(0)  # opens what opens late
    began = time.perf_counter()
    await enqueue_all(store, sizes.callers, sizes.messages_each)
    seconds = time.perf_counter() - began
    return {"enqueue_50": sizes.callers * sizes.messages_each / seconds}


async def enqueue_all(store: Store, callers: int, each: int) -> None:
    """``each`` messages by each of the callers, all at once."""

    async def call(caller: int) -> None:
        for number in range(each):
            await store.enqueue(1 + caller * each + number)

    await asyncio.gather(*map(call, range(callers)))


async def drain(store: Store, sizes: Sizes) -> Figures:
    """No-op messages that were queued before, by one worker in this process."""
    each = max(1, sizes.drained // sizes.callers)
    total, seen, done = each * sizes.callers, 0, asyncio.Event()
    await enqueue_all(store, sizes.callers, each)

    def handler() -> None:
        nonlocal seen
        seen += 1
        if seen >= total:
            done.set()

    began = time.perf_counter()
    await store.serve(handler)
    await asyncio.wait_for(done.wait(), _TIMEOUT_S)
    return {"drain": total / (time.perf_counter() - began)}


async def pick_up(store: Store, sizes: Sizes) -> Figures:
    """From the call of ``queue`` to the handler, the worker being idle."""
    arrived = asyncio.Event()
    at = 0.0

    def handler() -> None:
        nonlocal at
        at = time.perf_counter()
        arrived.set()

    await store.serve(handler)

    async def once(number: int) -> float:
        arrived.clear()
        began = time.perf_counter()
        await store.enqueue(number)
        await asyncio.wait_for(arrived.wait(), _TIMEOUT_S)
        return at - began

    await once(0)
    return {"pick_up": 1_000 * await median_of_pauses(once, sizes.pick_ups)}


async def list_log(store: Store, sizes: Sizes) -> Figures:
    """The whole log, by a fresh handle and then again after each new event."""
    for number in range(sizes.logs):
        await store.start_run(run_id(number))
        for place in range((sizes.log_events - 2) // 3):
            await step(store, run_id(number), f"step_{place:06d}")
        for place in range((sizes.log_events - 2) % 3):
            await store.create_step(run_id(number), f"step_more_{place}")
    await store.reopen()
    await store.list_log(run_id(sizes.logs))  # opens what opens late; this run has no events

    async def listing(number: int, expected: int) -> float:
        began = time.perf_counter()
        count = await store.list_log(run_id(number))
        seconds = time.perf_counter() - began
        assert count == expected, f"{count} events instead of {expected}"
        return seconds

    first = [await listing(number, sizes.log_events) for number in range(sizes.logs)]
    again = list[float]()
    for repeat in range(sizes.log_repeats):
        await store.create_step(run_id(0), f"step_again_{repeat}")
        again.append(await listing(0, sizes.log_events + 1 + repeat))
    return {
        "list_first": 1_000 * statistics.median(first),
        "list_again": 1_000 * statistics.median(again),
    }


async def hook_by_token(store: Store, sizes: Sizes) -> Figures:
    await store.start_run(run_id(0))
    for number in range(sizes.hooks):
        await store.create_hook(run_id(0), f"hook_{number:06d}", f"token-{number}")
    rng, times = random.Random(1), list[float]()  # noqa: S311
    for _ in range(sizes.lookups):
        number = rng.randrange(sizes.hooks)
        began = time.perf_counter()
        found = await store.find_hook(f"token-{number}")
        times.append(time.perf_counter() - began)
        assert found == f"hook_{number:06d}"
    return {"hook_by_token": 1_000 * statistics.median(times)}


async def stream(store: Store, sizes: Sizes) -> Figures:
    run, chunks = run_id(0), [CHUNK] * sizes.stream_chunks
    await store.start_run(run)
    await store.write_chunks(run, "opening", [PAYLOAD])
    total = sizes.stream_batches * sizes.stream_chunks
    began = time.perf_counter()
    for _ in range(sizes.stream_batches):
        await store.write_chunks(run, "bulk", chunks)
    written = time.perf_counter() - began
    await store.close_stream(run, "bulk")
    began, count = time.perf_counter(), 0
    async with aclosing(store.read_stream(run, "bulk")) as source:
        async for chunk in source:
            count += len(chunk) == len(CHUNK)
    read = time.perf_counter() - began
    assert count == total, f"{count} chunks instead of {total}"
    live = await _live(store, run, sizes.live_chunks)
    return {
        "stream_write": total / written,
        "stream_read": total / read,
        "stream_live": 1_000 * live,
    }


async def _live(store: Store, run: str, count: int) -> float:
    arrived, at = asyncio.Event(), 0.0

    async def read() -> None:
        nonlocal at
        async with aclosing(store.read_stream(run, "live")) as source:
            async for _ in source:
                at = time.perf_counter()
                arrived.set()

    async def once(number: int) -> float:
        arrived.clear()
        began = time.perf_counter()
        await store.write_chunks(run, "live", [CHUNK])
        await asyncio.wait_for(arrived.wait(), _TIMEOUT_S)
        return at - began

    reader = asyncio.create_task(read())
    await once(0)
    median = await median_of_pauses(once, count)
    await store.close_stream(run, "live")
    await asyncio.wait_for(reader, _TIMEOUT_S)
    return median


async def median_of_pauses(once: Callable[[int], Awaitable[float]], count: int) -> float:
    rng, times = random.Random(1), list[float]()  # noqa: S311
    for number in range(1, count + 1):
        await asyncio.sleep(rng.uniform(*PAUSES_S))
        times.append(await once(number))
    return statistics.median(times)


WORLD_LEVEL: dict[str, Callable[[Store, Sizes], Awaitable[Figures]]] = {
    "step_events_1": step_events_1,
    "step_events_50": step_events_50,
    "enqueue_50": enqueue_50,
    "drain": drain,
    "pick_up": pick_up,
    "list_log": list_log,
    "hook_by_token": hook_by_token,
    "stream": stream,
}
