"""How many requests and commits a step takes on a libSQL server: counted on their way."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from .delay import DelayingProxy
from .plan import Sizes
from .stores import database_url, moved_store
from .world_level import run_id, step


async def run(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Of ``step_created``, ``step_started`` and ``step_completed`` together."""
    port = urlsplit(database_url(directory)).port
    assert port is not None
    with DelayingProxy(port) as proxy:
        store = moved_store(directory, f"libsql://127.0.0.1:{proxy.port}?tls=0")
        await store.open()
        try:
            await store.start_run(run_id(0))
            proxy.counts.clear()
            for number in range(sizes.steps_alone):
                await step(store, run_id(0), f"step_{number:06d}")
            counts = dict(proxy.counts)
        finally:
            await store.close()
    return {
        "requests_per_step": counts["requests"] / sizes.steps_alone,
        "commits_per_step": counts["commits"] / sizes.steps_alone,
    }
