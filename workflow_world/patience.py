"""Reads that ride out a short outage of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from .clock import Clock
from .errors import OUTAGE_CODES, BackendError

T = TypeVar("T")
_RETRIES: Final = 5
_RETRY_FIRST_S: Final = 0.05


async def patiently(read: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """What ``read`` returns, tried up to five times more within 1.6 s while the database is away.

    Raises: what the last ``read`` raised; any other error at once.
    """
    for attempt in range(_RETRIES):
        try:
            return await read()
        except BackendError as error:
            if error.code not in OUTAGE_CODES:
                raise
        await clock.wait(asyncio.Event(), _RETRY_FIRST_S * 2**attempt)
    return await read()
