"""Delivery by HTTP: messages that were queued before, to a trivial server in another process."""

from __future__ import annotations

import time
from pathlib import Path

from .beside import beside
from .plan import Sizes
from .stores import own_store
from .world_level import enqueue_all

IN_FLIGHT = 20


async def run(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Messages per second, from the start of the worker to the server's last answer."""
    assert contender == "ours", contender
    each = max(1, sizes.callbacks // sizes.callers)
    total = each * sizes.callers
    async with beside("http_server", expect=total) as server:
        base_url = f"http://127.0.0.1:{await server.hear()}"
        store = own_store(directory, delivery="http", base_url=base_url, concurrency=IN_FLIGHT)
        await store.open()
        try:
            await enqueue_all(store, sizes.callers, each)
            began = time.perf_counter()
            await store.world.start()
            ended = float(await server.hear())
        finally:
            await store.close()
    return {"callbacks": total / (ended - began)}
