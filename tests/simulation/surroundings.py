"""What a process of the test has besides the simulation: kept still while a seed is played."""

from __future__ import annotations

import gc
import logging
import random as global_random
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .processes import Crash


def fast_directory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


@contextmanager
def seeded_globals(seed: int) -> Generator[None]:
    """Chance and the collector, which ends what is forgotten at a time of its own."""
    state = global_random.getstate()
    global_random.seed(seed)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        global_random.setstate(state)


class _Errors(logging.Handler):
    """Keeps errors that came with an exception: nothing may raise what nobody expects."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], Crash):
            text = "".join(traceback.format_exception(*record.exc_info))
            self.found.append(f"{record.getMessage()}: {text}")


@contextmanager
def quiet_logs() -> Generator[list[str]]:
    logger, handler = logging.getLogger("workflow_world"), _Errors()
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
