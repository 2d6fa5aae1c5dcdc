"""From a URL and options to a remote database, not yet opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from ... import hrana
from ...clock import Clock
from ...errors import ConfigurationError
from ...hrana.location import Location
from ...hrana.location import locate as locate_in
from ...settings import env_text
from .database import LibsqlDatabase

TOKEN_VARIABLES: Final = ("WORKFLOW_TURSO_AUTH_TOKEN",)


def plan(
    url: str,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    auto_migrate: bool,
    prefix: str,
    auth_token: str | None = None,
    **options: Any,
) -> tuple[Callable[[], LibsqlDatabase], Hashable | None]:
    """What makes the database, and what equals for all that may share it; None: nobody may.

    Raises: ConfigurationError; TypeError for an unknown option.
    """
    if unknown := [name for name, value in options.items() if value is not None]:
        raise TypeError(f"libSQL has no option {', '.join(sorted(unknown))}")
    location = locate(url, auth_token, environ)

    def make() -> LibsqlDatabase:
        return LibsqlDatabase(location, clock=clock, prefix=prefix, auto_migrate=auto_migrate)

    return make, ("libsql", location, id(clock), auto_migrate, prefix)


def locate(url: str, auth_token: object, environ: Mapping[str, str]) -> Location:
    """The token is the option's, else the URL's, else the environment's.

    Raises: ConfigurationError; its text has no secret.
    """
    if auth_token is not None and (not isinstance(auth_token, str) or not auth_token.strip()):
        raise ConfigurationError("auth_token must be non-empty text")
    try:
        found = locate_in(url, auth_token=auth_token)
        if found.token is None:
            found = locate_in(url, auth_token=env_text(TOKEN_VARIABLES, environ))
    except hrana.InterfaceError as error:
        raise ConfigurationError(str(error)) from None
    return found
