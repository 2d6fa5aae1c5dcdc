"""Which messages of a run are going to replay it soon."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, FromClause, and_, bindparam, or_

from ..core.recovery import MOMENT
from ..core.values import to_ms
from .compiled import const


def soon(now: datetime) -> int:
    """The parameter of ``will_replay``."""
    return to_ms(now + MOMENT)


def will_replay(messages: FromClause) -> ColumnElement[bool]:
    """Whether an unfinished message replays its run, and is claimed or due by ``soon``."""
    m = messages.c
    return and_(
        m.step_id.is_(None),
        # An expression, not the column: the search has to go by the run.
        or_(m.status == const("processing"), m.available_at + 0 <= bindparam("soon")),
    )
