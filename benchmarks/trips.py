"""How many requests and commits a step takes on a libSQL server: counted on their way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from tests.hrana.proxy import Proxy

from .plan import Sizes
from .stores import OwnStore, database_url
from .world_level import run_id, step


async def run(contender: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Of ``step_created``, ``step_started`` and ``step_completed`` together."""
    with closing(Proxy(urlsplit(database_url(directory)).netloc)) as proxy:
        store = OwnStore(directory, f"libsql://127.0.0.1:{proxy.port}?tls=0")
        await store.open()
        try:
            await store.start_run(run_id(0))
            before = len(proxy.bodies)
            for number in range(sizes.steps_alone):
                await step(store, run_id(0), f"step_{number:06d}")
            sent = proxy.sent()[before:]
        finally:
            await store.close()
    commits = sum(sql.startswith("COMMIT") for request in sent for sql in request)
    return {
        "requests_per_step": len(sent) / sizes.steps_alone,
        "commits_per_step": commits / sizes.steps_alone,
    }
