"""A worker process: serves the durable flows until it is killed. Says ``ready`` once it claims."""

import asyncio

import workflow_world


async def serve() -> None:
    async with world:
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    world = workflow_world.install(
        concurrency=8, lock_duration_ms=1_500, recovery_interval_ms=1_000, recovery_grace_ms=1_000
    )
    from flows import durable

    assert durable.workflows.http_handler
    asyncio.run(serve())
