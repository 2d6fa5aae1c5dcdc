"""Wake-ups."""

from __future__ import annotations

from typing import Protocol


class Subscription(Protocol):
    """One waiter for one topic. Use it on the event loop that created it."""

    async def wait(self, timeout: float | None) -> bool:
        """Wait for a wake-up since the last ``wait`` returned, at most ``timeout`` seconds.

        Returns: True for a wake-up, False for the timeout. May wake for nothing.
        """
        ...

    def close(self) -> None: ...


class Notifier(Protocol):
    """Wake-ups: "look again", never data. Losing all of them only costs latency.

    Topics: ``queue``, ``run:RUN_ID``, ``stream:RUN_ID:NAME``. The stores notify after a commit.
    """

    def notify(self, topic: str) -> None:
        """Wake the topic's subscriptions, from any thread."""
        ...

    def subscribe(self, topic: str) -> Subscription: ...
