"""From a URL and options to a Postgres database, not yet opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from sqlalchemy.engine import Engine

from ...clock import Clock
from ...errors import ConfigurationError
from .database import PostgresDatabase
from .location import Location, locate
from .options import OPTION_NAMES, Options


def plan(
    url: str,
    *,
    clock: Clock,
    auto_migrate: bool,
    prefix: str,
    engine: Engine | None = None,
    **options: Any,
) -> tuple[Callable[[], PostgresDatabase], Hashable | None]:
    """What makes the database, and what equals for all that may share it; None: nobody may.

    Raises: ConfigurationError; TypeError for an unknown option.
    """
    if unknown := options.keys() - OPTION_NAMES:
        raise TypeError(f"Postgres has no option {', '.join(sorted(unknown))}")
    chosen = Options(**{name: value for name, value in options.items() if value is not None})
    location = locate(url) if engine is None else _location_of(engine)

    def make() -> PostgresDatabase:
        return PostgresDatabase(
            location, chosen, clock=clock, prefix=prefix, auto_migrate=auto_migrate, engine=engine
        )

    if engine is not None:
        return make, None
    arguments = tuple(sorted((name, str(value)) for name, value in location.arguments.items()))
    return make, ("postgresql", arguments, chosen, id(clock), auto_migrate, prefix)


def _location_of(engine: object) -> Location:
    if not isinstance(engine, Engine) or engine.dialect.driver != "psycopg":
        kind = engine.dialect.driver if isinstance(engine, Engine) else type(engine).__name__
        raise ConfigurationError(f"engine must be a SQLAlchemy engine on psycopg, not {kind}")
    return Location(label=engine.url.render_as_string(hide_password=True), arguments={})
