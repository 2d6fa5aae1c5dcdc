"""What every group of operations shares: the open backend, the settings and the clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from ..backend import Backend, Lease
from ..clock import Clock
from ..core import paging
from ..core.entities import Event, Hook, Page, Run, Step, Wait
from ..core.values import is_safe_id
from ..errors import InvalidRequestError, WorldClosedError
from ..settings import Settings

SortOrder: TypeAlias = Literal["asc", "desc"]
R = TypeVar("R", Run, Step, Event, Hook, Wait)


class Delivery:
    """Around a handler's call: what it sends is sent again should the delivery be undone.

    ``open`` until the message is settled. Tasks that outlive the handler have a copy of the
    context variable, but this same object.
    """

    __slots__ = ("_token", "context", "lease", "open")

    def __init__(self, context: Context, lease: Lease) -> None:
        self.context, self.lease, self.open = context, lease, True
        self._token: Token[Delivery | None] | None = None

    def __enter__(self) -> None:
        self._token = _delivery.set(self)

    def __exit__(self, *_: object) -> None:
        self.open = False
        if self._token is not None:
            # In another context the task was thrown away unfinished, and this one with it.
            with suppress(ValueError):
                _delivery.reset(self._token)


_delivery: ContextVar[Delivery | None] = ContextVar("workflow_world_delivery", default=None)


@dataclass(slots=True)
class Context:
    """Opens the backend at the first use and refuses use after close (spec 6.4)."""

    backend: Backend
    settings: Settings
    clock: Clock
    closed: bool = False

    async def opened(self) -> Backend:
        """The backend, connected and migrated. Raises: WorldClosedError and what opening raises."""
        if self.closed:
            raise WorldClosedError()
        await self.backend.open()
        return self.backend

    @property
    def sender(self) -> Lease | None:
        """The delivery of this World, not settled yet, that calls."""
        delivery = _delivery.get()
        if delivery is None or not delivery.open or delivery.context is not self:
            return None
        return delivery.lease


def ordered(query: paging.Query, order: SortOrder | None, cursor: str | None) -> paging.Query:
    """The query with its order and place, asking for one row more than the page holds.

    Raises: InvalidRequestError for an unknown order, InvalidCursorError.
    """
    if order not in (None, "asc", "desc"):
        raise InvalidRequestError(f"sort_order must be 'asc' or 'desc', not {order!r}")
    if order is not None:
        query = replace(query, descending=order == "desc")
    return replace(query, after=None if not cursor else paging.decode_cursor(query, cursor))


def one_more(query: paging.Query) -> paging.Query:
    """The same read with room for the row that tells whether there is more."""
    return replace(query, limit=query.limit + 1)


def page(query: paging.Query, rows: list[R], cursor: str | None) -> Page[R]:
    key: Callable[[R], paging.Key] = lambda row: paging.key_of(query, row)  # noqa: E731
    return paging.page_of(query, rows, cursor, key)


def check_id(value: str, name: str) -> str:
    """Raises: InvalidRequestError unless the id is a safe one (spec 1.1)."""
    if not isinstance(value, str) or not is_safe_id(value):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"{name} must be 1 to 512 characters without NUL")
    return value
