"""One plain httpx client that posts what our worker posts, to the same server."""

from __future__ import annotations

import asyncio
import time

import httpx

from .beside import beside
from .callbacks import IN_FLIGHT
from .plan import Sizes


async def run(sizes: Sizes) -> dict[str, float]:
    """Requests per second, from the first call to the server's last answer."""
    async with beside("http_server", expect=sizes.callbacks) as server:
        url = f"http://127.0.0.1:{await server.hear()}/.well-known/workflow/v1/flow"
        numbers = iter(range(sizes.callbacks))
        async with httpx.AsyncClient() as client:
            await client.get(url)  # opens what opens late

            async def call() -> None:
                for number in numbers:
                    body = {"runId": f"wrun_{number:026d}", "stepId": f"step_{number}"}
                    response = await client.post(url, json={**body, "stepName": "noop"})
                    assert response.is_success, response

            began = time.perf_counter()
            await asyncio.gather(*[call() for _ in range(IN_FLIGHT)])
        ended = float(await server.hear())
    return {"callbacks": sizes.callbacks / (ended - began)}
