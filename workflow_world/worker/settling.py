"""Settlements of one turn of the event loop share a call, and so a statement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from ..backend import MessageStore
from ..core.decision import Intent
from ..core.delivery import Settlement
from ..errors import WorldError

_Waiter: TypeAlias = asyncio.Future[bool]


class Settling:
    """Settles the messages of one event loop."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._waiting: list[tuple[Settlement, _Waiter]] = []

    async def settle(
        self, settlement: Settlement, intent: Intent | None, *, alone: bool = False
    ) -> bool:
        """``alone``: not with others, one of which may be why this one was not stored.

        Returns: whether the lease was live, and so the settlement is stored.
        Raises: WorldError; to settle the same again is then safe.
        """
        if alone or intent is not None:
            # By itself: what is wrong with the run must not hold up the neighbours.
            return (await self._store.settle([(settlement, intent)]))[0]
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, waiter))
        if len(self._waiting) == 1:
            await self._settle_all()
        return await waiter

    async def _settle_all(self) -> None:
        """The first of a turn waits for the others, and speaks for all of them."""
        batch = self._waiting
        outcome: Sequence[bool] | WorldError = WorldError("Whoever settled for all was cancelled")
        try:
            try:
                await asyncio.sleep(0)
            finally:
                self._waiting = []
            outcome = await self._store.settle([(settlement, None) for settlement, _ in batch])
        except WorldError as error:
            outcome = error
        except BaseException:
            batch[0][1].cancel()  # nobody is going to look at it
            raise
        finally:
            for number, (_, waiter) in enumerate(batch):
                if waiter.done():
                    continue
                if isinstance(outcome, WorldError):
                    waiter.set_exception(outcome)
                else:
                    waiter.set_result(outcome[number])
