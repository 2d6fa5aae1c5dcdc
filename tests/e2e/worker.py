"""Worker processes that serve the durable flows until they are killed: one more for each line of
input, which names it. Says ``NAME PID`` once it claims. With ``REPLICAS``, a folder, each has an
embedded replica of its own there.

This process imports what is slow and forks, so that a life of a worker costs a fraction of a
second. When its input ends, it ends with all of them.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import traceback

import vercel.workflow

import workflow_world
import workflow_world.vercel


async def serve(name: str) -> None:
    options = json.loads(os.environ.get("OPTIONS", "{}"))
    if folder := os.environ.get("REPLICAS"):
        options["sync_url"] = os.environ["WORKFLOW_DATABASE_URL"]
        options["database_url"] = f"file:{folder}/{os.getpid()}.db"
    world = workflow_world.install(
        concurrency=8,
        lock_duration_ms=int(os.environ.get("LEASE_MS", "1500")),
        recovery_interval_ms=1_000,
        recovery_grace_ms=1_000,
        **options,
    )
    from flows import durable

    assert durable.workflows.http_handler
    async with world:
        os.write(1, f"{name} {os.getpid()}\n".encode())
        await asyncio.Event().wait()


def main() -> None:
    logging.basicConfig(
        level=logging.WARNING, format="%(process)d %(created)f %(name)s %(message)s"
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is slow to import; nothing runs before a World is used.
    assert vercel.workflow.Workflows
    assert workflow_world.vercel.attach
    workflow_world.create_world()
    assert threading.active_count() == 1
    for line in sys.stdin:
        if os.fork() == 0:
            try:
                asyncio.run(serve(line.strip()))
            except BaseException:
                traceback.print_exc()
            finally:
                os.write(1, f"{line.strip()} ended\n".encode())
                os._exit(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
