"""URL scheme -> backend. Others add theirs by an entry point in ``workflow_world.backends``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, cast

from .backend import Backend
from .clock import Clock
from .errors import ConfigurationError

GROUP: Final = "workflow_world.backends"

BUILT_IN: Final[Mapping[str, str]] = {
    "file": "workflow_world.sql:open_backend",
    "sqlite": "workflow_world.sql:open_backend",
    "memory": "workflow_world.memory:open_backend",
}

_EXTRAS: Final[Mapping[str, str]] = {}
"""Scheme -> the extra that brings its driver."""

Opener = Callable[..., Backend]


def scheme_of(url: str) -> str:
    """``file`` of ``file:x.db``; ``:memory:`` is SQLite in memory."""
    if url == ":memory:":
        return "sqlite"
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise ConfigurationError(
            f"The database URL has no scheme: write file:{redact(url)} for a SQLite file. "
            f"Known schemes: {', '.join(known())}"
        )
    return scheme.partition("+")[0].lower()


def known() -> list[str]:
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def opener_for(url: str) -> Opener:
    """The function that makes a backend for this URL; importing it does no I/O.

    Raises: ConfigurationError for an unknown scheme, naming the known ones.
    """
    scheme = scheme_of(url)
    for point in entry_points(group=GROUP, name=scheme):
        return _loaded(scheme, point.load)
    target = BUILT_IN.get(scheme)
    if target is None:
        raise ConfigurationError(
            f"No backend for scheme {scheme!r}. Known schemes: {', '.join(known())}. "
            f"A package can add one through the entry point group {GROUP}."
        )
    module, _, name = target.partition(":")
    return _loaded(scheme, lambda: getattr(importlib.import_module(module), name))


def open_backend(
    url: str,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    options: Mapping[str, Any],
) -> Backend:
    """A backend for the URL, not yet connected.

    ``options`` are those that the common settings do not know; the backend raises TypeError for
    one that it does not know either.
    """
    return opener_for(url)(url, clock=clock, environ=environ, **options)


def redact(url: str) -> str:
    """The URL without password, token or query values, for logs and errors."""
    head, mark, _ = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    if slashes:
        authority, slash, path = rest.partition("/")
        if "@" in authority:
            user, _, host = authority.rpartition("@")
            authority = f"{user.partition(':')[0]}:***@{host}"
        head = f"{scheme}://{authority}{slash}{path}"
    return head + ("?…" if mark else "")


def _loaded(scheme: str, load: Callable[[], Any]) -> Opener:
    try:
        return cast("Opener", load())
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(scheme, scheme)
        raise ConfigurationError(
            f"The {scheme} backend needs {error.name}: pip install 'workflow-world[{extra}]'"
        ) from error
