"""Walking a list to its end, past rows that cannot be decoded.

One bad row makes every page that holds it fail. The page is made smaller until only that row is
left, and then the first place behind it is searched for where reading works again: lists are
asked for what follows a key, and keys are numbers with 26 characters of ULID at their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar

from ..backend import Backend
from ..core.ulid import RANDOM_BITS, encode_ulid, ulid_time
from ..errors import BackendError, InvalidRequestError

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")

Read: TypeAlias = Callable[[K | None, int], Awaitable[tuple[Sequence[T], K | None]]]
"""Called with a key, or None, and a limit. Returns: the rows behind the key, and the key to go on
from, or None at the end."""

ULID_BITS: Final = 128
_PROBES: Final = 64
"""Looks at each scale of a search; more of them pass over fewer rows between two bad ones."""

_DIGITS: Final = str.maketrans(
    "0123456789ABCDEFGHJKMNPQRSTVWXYZ", "0123456789abcdefghijklmnopqrstuv"
)
_DECODING: Final = (ValueError, TypeError, LookupError, AttributeError, InvalidRequestError)
"""What decoding a row raises when its columns hold what nobody wrote there."""


class UnreadableError(Exception):
    """A row cannot be decoded; the text says how."""


class Readable:
    """Reads that tell a row that cannot be decoded from a database that cannot be reached."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(
        self, verb: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs
    ) -> T:
        """The verb's answer. Raises: UnreadableError for a row, BackendError for an outage."""
        try:
            return await verb(*args, **options)
        except _DECODING as error:
            raise UnreadableError(str(error)) from error
        except BackendError as error:
            if error.code == "CORRUPT":
                raise UnreadableError(str(error)) from error
        try:
            return await verb(*args, **options)
        except BackendError as error:
            # A driver may refuse a row too: then everything else still works.
            await self._backend.messages.stats()
            raise UnreadableError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Space(Generic[K]):
    """The keys of a list as whole numbers, in the same order: how to search among them.

    ``nearest`` narrows a search down to the first row behind a key, where the list can be asked
    for rows before a time: called with the key and the bounds so far. ``beyond`` goes with it: the
    first key of the time after a key's, or None when there is none.
    """

    number_of: Callable[[K | None], int]
    key_at: Callable[[int], K]
    bits: int
    nearest: Callable[[K | None, int, int], Awaitable[tuple[int, int]]] | None = None
    beyond: Callable[[K], K | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Hole(Generic[K]):
    """A row that cannot be decoded: the key behind which reading works again, or None: the rest
    of the list could not be read. The key is the row's own when its id is a ULID."""

    key: K | None
    reason: str


async def walk(
    readable: Readable, read: Read[K, T], space: Space[K], *, limit: int
) -> AsyncGenerator[Sequence[T] | Hole[K]]:
    """Pages of at most ``limit`` rows, and a hole for each row that cannot be decoded.

    Where the list cannot be asked for rows before a time, rows close between two holes may be
    passed over: they are seen once the holes are mended.
    """
    after: K | None = None
    size = limit
    while True:
        await asyncio.sleep(0)  # a store in memory would never let anybody else go on
        try:
            rows, following = await readable(read, after, size)
        except UnreadableError as error:
            if size > 1:
                size = max(1, size // 4)
                continue
            found = await _behind(readable, read, space, after)
            yield Hole(found, str(error))
            if found is None:
                return
            after = found
            continue
        yield rows
        if following is None:
            return
        after, size = following, min(limit, size * 4)


async def _behind(
    readable: Readable, read: Read[K, T], space: Space[K], after: K | None
) -> K | None:
    """The first key found from which one row, or the end, can be read."""

    async def works(number: int) -> bool:
        key: Any = space.key_at(number)
        if after is not None and key <= after:
            return False  # what stands there was read already
        try:
            await readable(read, key, 1)
        except UnreadableError:
            return False
        return True

    low, high = space.number_of(after), (1 << space.bits) - 1
    if space.nearest is not None:
        low, high = await space.nearest(after, low, high)
        if not await works(high):
            key: Any = space.key_at(high)
            if after is None or key > after:
                return space.key_at(high)  # another one follows it
            return space.beyond(after)  # its id is no ULID, and sorts behind them all
    elif not await works(high):
        return None
    while high - low > 1:
        step = max(1, (high - low) // _PROBES)
        for number in range(low + step, high, step):
            if await works(number):
                high = number
                break
            low = number
    return space.key_at(high)


def ulid_space(prefix: str) -> Space[str]:
    """Ids that are a prefix and a ULID."""
    return Space(
        lambda key: 0 if key is None else number_of(key, prefix),
        lambda number: id_at(number, prefix),
        ULID_BITS,
    )


def number_of(text: str, prefix: str) -> int:
    """The number of a prefixed ULID; 0 for another id."""
    tail = text.removeprefix(prefix)
    if ulid_time(tail) is None:
        return 0
    return min(int(tail.translate(_DIGITS), 32), (1 << ULID_BITS) - 1)


def id_at(number: int, prefix: str) -> str:
    return prefix + encode_ulid(number >> RANDOM_BITS, number & ((1 << RANDOM_BITS) - 1))
