"""From a URL and options to a remote database, not yet opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Final

from ... import hrana
from ...clock import Clock
from ...errors import ConfigurationError
from ...hrana.location import Location
from ...hrana.location import locate as locate_in
from ...registry import redact, scheme_of
from ...settings import env_text
from ..sqlite.locations import locate as locate_file
from .database import LibsqlDatabase
from .replica import ReplicaDatabase

TOKEN_VARIABLES: Final = ("WORKFLOW_TURSO_AUTH_TOKEN",)
_LONGEST_MS: Final = 86_400_000


def plan(
    url: str,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    auto_migrate: bool,
    prefix: str,
    auth_token: str | None = None,
    sync_url: str | None = None,
    request_timeout_ms: int | None = None,
    **options: Any,
) -> tuple[Callable[[], LibsqlDatabase], Hashable | None]:
    """What makes the database, and what equals for all that may share it; None: nobody may.

    Raises: ConfigurationError; TypeError for an unknown option.
    """
    if unknown := [name for name, value in options.items() if value is not None]:
        raise TypeError(f"libSQL has no option {', '.join(sorted(unknown))}")
    timeout = seconds(request_timeout_ms)
    common: dict[str, Any] = {
        "clock": clock,
        "prefix": prefix,
        "auto_migrate": auto_migrate,
        "timeout": timeout,
    }
    if sync_url is None:
        location, path = locate(url, auth_token, environ), None
    else:
        location, path = locate(sync_url, auth_token, environ), _replica_in(url)

    def make() -> LibsqlDatabase:
        if path is None:
            return LibsqlDatabase(location, **common)
        return ReplicaDatabase(path, location, **common)

    return make, ("libsql", location, path, id(clock), auto_migrate, prefix, timeout)


def seconds(request_timeout_ms: object) -> float:
    """How long the answer to a request may take. Raises: ConfigurationError."""
    if request_timeout_ms is None:
        return 30.0
    if type(request_timeout_ms) is not int or not 1 <= request_timeout_ms <= _LONGEST_MS:
        raise ConfigurationError(
            f"request_timeout_ms must be a number from 1 to {_LONGEST_MS},"
            f" not {request_timeout_ms!r}"
        )
    return request_timeout_ms / 1000


def _replica_in(url: str) -> Path:
    """The file that a URL with ``sync_url`` names."""
    found = locate_file(url).path if scheme_of(url) in ("file", "sqlite") else None
    if found is None:
        raise ConfigurationError(
            f"{redact(url)}: with sync_url the URL names the replica's file, as in file:replica.db"
        )
    return found


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
