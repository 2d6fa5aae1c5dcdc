"""From a URL and options to a SQLite database, not yet opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import Engine

from ...clock import Clock
from ...errors import ConfigurationError
from .connections import Synchronous
from .database import SqliteDatabase
from .locations import Location, locate


def plan(
    url: str,
    *,
    clock: Clock,
    auto_migrate: bool,
    prefix: str,
    engine: Engine | None = None,
    synchronous: Synchronous | None = None,
    **unknown: object,
) -> tuple[Callable[[], SqliteDatabase], Hashable | None]:
    """What makes the database, and what equals for all that may share it; None: nobody may.

    Raises: ConfigurationError; TypeError for an unknown option.
    """
    if unknown:
        raise TypeError(f"SQLite has no option {', '.join(sorted(unknown))}")
    if synchronous not in (None, "full", "normal"):
        raise ConfigurationError(f"synchronous must be 'full' or 'normal', not {synchronous!r}")
    location = locate(url) if engine is None else _location_of(engine)
    chosen: dict[str, Any] = {
        "auto_migrate": auto_migrate,
        "synchronous": synchronous or "full",
        "prefix": prefix,
        "engine": engine,
    }

    def make() -> SqliteDatabase:
        return SqliteDatabase(location, clock=clock, **chosen)

    if location.path is None or engine is not None:
        return make, None
    return make, (str(location.path), id(clock), *(chosen[name] for name in sorted(chosen)))


def _location_of(engine: object) -> Location:
    """Where a given engine's database is: presence and wake-ups are about that file."""
    if not isinstance(engine, Engine) or engine.dialect.driver != "pysqlite":
        kind = engine.dialect.driver if isinstance(engine, Engine) else type(engine).__name__
        raise ConfigurationError(f"engine must be a SQLAlchemy engine on sqlite3, not {kind}")
    path = engine.url.database
    if not path or path == ":memory:" or path.startswith("file:"):
        raise ConfigurationError(
            "engine must be on a file, as in create_engine('sqlite:///workflow.db')"
        )
    return locate(f"file:{quote(path)}")
