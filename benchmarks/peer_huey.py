"""huey on SQLite: its own consumer, in this process, drains tasks that were queued before."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from huey import SqliteHuey

from .plan import Sizes

_TIMEOUT_S = 120.0


def run(sizes: Sizes, directory: Path, *, fsync: bool) -> dict[str, float]:
    """Tasks per second. ``fsync`` False is huey's default: no fsync at all."""
    queue = SqliteHuey(filename=str(directory / "huey.db"), fsync=fsync, results=False)
    seen, done, lock = 0, threading.Event(), threading.Lock()

    @queue.task()
    def noop(number: int) -> None:
        nonlocal seen
        with lock:
            seen += 1
            if seen >= sizes.drained:
                done.set()

    for number in range(sizes.drained):
        noop(number)
    consumer = queue.create_consumer(workers=1, periodic=False, check_worker_health=False)
    began = time.perf_counter()
    consumer.start()
    assert done.wait(_TIMEOUT_S), f"huey ran {seen} of {sizes.drained} tasks"
    seconds = time.perf_counter() - began
    consumer.stop(graceful=True)
    return {"drain": sizes.drained / seconds}
