"""The schema on a remote database: many processes may start on an empty one at once."""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy.engine import Engine

from ... import hrana
from ..migrate import HEAD, bring_up_to_date, check_version, version_of
from .errors import is_passing

_GIVE_UP_S: Final = 60.0
_PAUSE_S: Final = 0.05


def bring_up(engine: Engine, prefix: str, revision: str, *, migrate: bool) -> None:
    """Look before anything is altered: a database that is refused stays as it is.

    Raises: SchemaError, driver errors.
    """
    with engine.connect().execution_options(ro=True) as reader:
        if not migrate:
            check_version(reader, prefix)
            return
        if version_of(reader, prefix) == HEAD and revision in ("head", HEAD):
            return
    # Before the lock is taken: others may wait for it five seconds, and then take it away.
    importlib.import_module("alembic.command")
    retrying(lambda: bring_up_to_date(engine, prefix, revision), whatever_became_of_it=True)


def retrying(migrate: Callable[[], None], *, whatever_became_of_it: bool = False) -> None:
    """Again when the lock was lost to another process that makes the same thing, and when the
    answer to a COMMIT was: who has the lock next finds what became of it. That is for what may
    be done twice; a step down may not."""
    deadline = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            migrate()
            return
        except Exception as error:
            original = getattr(error, "orig", None) or error
            unknown = isinstance(original, hrana.UnknownOutcomeError)
            is_safe = is_passing(original) or (unknown and whatever_became_of_it)
            if not is_safe or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311
