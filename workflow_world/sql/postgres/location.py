"""Postgres URLs, as SQLAlchemy and libpq spell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.exc import ArgumentError

from ...errors import ConfigurationError
from ...registry import redact

_DEFAULTS: Final = {
    "application_name": "workflow-world",
    "connect_timeout": "10",
    # A server that went away without a word is noticed within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
_ALWAYS: Final = {"client_encoding": "UTF8"}
"""Whatever the database, the role or the environment say: arrays of text are sent as UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a database is: ``label`` for messages, ``arguments`` for the driver."""

    label: str
    arguments: Mapping[str, Any] = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(
            str(value)
            for name, value in self.arguments.items()
            if value and name in ("password", "sslpassword", "passfile")
        )


def locate(url: str) -> Location:
    """``postgresql://user:password@host:port/database?parameters``; parameters are libpq's.

    Raises: ConfigurationError; its text has no secret.
    """
    scheme, _, rest = url.partition(":")
    # Without the slashes nobody could say where a password ends.
    label = redact(url) if rest.startswith("//") else f"{scheme}:…"
    if scheme.lower() not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigurationError(f"{label}: write postgresql:// or postgresql+psycopg://")
    arguments = _arguments(f"postgresql+psycopg:{rest}") if rest.startswith("//") else None
    if arguments is None:
        raise ConfigurationError(
            f"{label} is no Postgres URL: write postgresql://user:password@host:port/database, "
            "with special characters percent-encoded"
        )
    if rest.partition(":")[2].count("@") > 1:
        # What is between them is most likely the end of a password: it must not be looked up, nor
        # shown by who does.
        raise ConfigurationError(
            f"{label} has an @ behind the one before the host: percent-encode special characters "
            "of the user and the password (@ is %40)"
        )
    if any("\0" in str(value) for value in arguments.values()):
        # libpq would read up to there, and connect to something else.
        raise ConfigurationError(f"{label} has a NUL character (%00) in it: remove it")
    return Location(label=label, arguments={**_DEFAULTS, **arguments, **_ALWAYS})


def _arguments(url: str) -> dict[str, Any] | None:
    """None for a text that is no URL: the reason could have the password in it."""
    try:
        dialect: Dialect = make_url(url).get_dialect()()
        arguments: dict[str, Any] = dict(dialect.create_connect_args(make_url(url))[1])
        return arguments
    except (ArgumentError, ValueError):
        return None
