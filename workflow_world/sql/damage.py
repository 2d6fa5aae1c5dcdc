"""Rows that hold what nobody wrote there: found where they are read, named by table and key.

A SQLite column takes values of any type, and a disk may change what was in it. Whatever reads
such a row raises one error that says where it is; the row itself stays as it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, Table

from ..errors import BackendError
from .compiled import Row
from .tables import QueueMessage, WorkflowEvent, WorkflowHook, WorkflowRun, WorkflowStep

CORRUPT: Final = "CORRUPT"
UNREADABLE: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    BackendError,
)
"""What decoding raises when a column holds something else than what is written there."""

_STORED: Final[dict[type, tuple[type, ...]]] = {bool: (bool, int)}
"""How a value may come back, where that is not in its own type only."""

_NAMES: Final[dict[type, str]] = {str: "text", int: "a whole number", bytes: "bytes"}


def corrupt(where: str, reason: object) -> BackendError:
    """The one error; ``reason`` must not quote what is stored."""
    return BackendError(f"{where} is damaged: {reason}", code=CORRUPT)


class RowsOf:
    """What the rows of one table look like: its first ``width`` columns, in their order."""

    def __init__(self, model: type[Any], width: int | None = None) -> None:
        table: Table = model.__table__
        self.name = table.name
        self._columns: tuple[Column[Any], ...] = tuple(table.columns)[:width]
        self._key = tuple(index for index, one in enumerate(self._columns) if one.primary_key)
        self._sound: set[tuple[type, ...]] = set()

    def check(self, row: Row) -> None:
        """Each value is of its column's type; the row may have more of them.

        Rows look alike, so their types are compared as a whole (measured: below a microsecond).

        Raises: BackendError with code CORRUPT.
        """
        types = tuple(map(type, row))
        if types in self._sound:
            return
        for column, value in zip(self._columns, row, strict=False):
            if not _fits(column, value):
                kind = _NAMES.get(column.type.python_type, "true or false")
                raise self.damaged(row, f"column {column.name} does not hold {kind}")
        self._sound.add(types)

    def damaged(self, row: Row, reason: object) -> BackendError:
        key = ", ".join(f"{self._columns[index].name} {row[index]!r}" for index in self._key)
        return corrupt(f"The row of {self.name} with {key}", reason)

    def readable(self, row: Row) -> list[Any]:
        """The row with something of the right type wherever another type is found."""
        pairs = zip(self._columns, row, strict=False)
        return [value if _fits(column, value) else _stand_in(column) for column, value in pairs]


def _fits(column: Column[Any], value: object) -> bool:
    if value is None:
        return bool(column.nullable)
    wanted = column.type.python_type
    return type(value) in _STORED.get(wanted, (wanted,))


def _stand_in(column: Column[Any]) -> object:
    return None if column.nullable else column.type.python_type()


RUN_WIDTH: Final = 17
"""Columns that make a run; the one behind them is the queue's."""

RUNS: Final = RowsOf(WorkflowRun, RUN_WIDTH)
STEPS: Final = RowsOf(WorkflowStep)
EVENTS: Final = RowsOf(WorkflowEvent)
HOOKS: Final = RowsOf(WorkflowHook)
MESSAGES: Final = RowsOf(QueueMessage)


def checked(where: str, values: Sequence[object], *types: type) -> None:
    """Values that were read by themselves are of these types, or None.

    Raises: BackendError with code CORRUPT that says ``where`` they were read.
    """
    for value, wanted in zip(values, types, strict=True):
        if value is not None and type(value) not in _STORED.get(wanted, (wanted,)):
            raise corrupt(where, f"{_NAMES.get(wanted, 'true or false')} was expected")
