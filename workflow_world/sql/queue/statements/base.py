"""What the statements of the message store share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select, text

from ...compiled import Statement, const
from ...tables import UNFINISHED, Tables


def begins_with(name: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    return func.substr(name, 1, len(prefix)) == prefix


class StatementsBase:
    """``skips_locked``: a claim passes over what another one is taking."""

    def __init__(self, tables: Tables, *, skips_locked: bool = False) -> None:
        self.t, self._skips_locked = tables, skips_locked
        self._ready: dict[tuple[str, bool, tuple[str, ...] | None], Statement] = {}

    @property
    def _m(self) -> Any:
        return self.t.messages.c

    def _of_run(self, status: str, first: Callable[..., Any], column: str) -> Select[Any]:
        """The first or last such time of the run's workflow messages of this status, or NULL."""
        m = self._m
        return select(
            # An expression, not the column: the search has to go by the run.
            first(m[column] + 0)
        ).where(
            m.run_id == bindparam("run_id"),
            text(UNFINISHED),
            m.status == const(status),
            m.step_id.is_(None),
        )
