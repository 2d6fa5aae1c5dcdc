"""URL scheme -> backend. Others add theirs by an entry point in ``workflow_world.backends``."""

from __future__ import annotations

import importlib
import re
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
    "libsql": "workflow_world.sql:open_backend",
    "http": "workflow_world.sql:open_backend",
    "https": "workflow_world.sql:open_backend",
    "postgres": "workflow_world.sql:open_backend",
    "postgresql": "workflow_world.sql:open_backend",
    "mongodb": "workflow_world.mongodb:open_backend",
    "memory": "workflow_world.memory:open_backend",
}

_EXTRAS: Final[Mapping[str, str]] = {}
"""Scheme -> the extra that brings its driver."""

_QUERY: Final = re.compile(r"[?#]")

_NO_PORT: Final = re.compile(r"^([^/?#\[\]:]*:)(?![0-9]*(?:[/?#]|$))[^/?#]*")

_TOKEN: Final = re.compile(r"[\w-]{12,}(\.[\w-]{12,})*")
"""A JWT, or a key: long runs of letters and digits."""

Opener = Callable[..., Backend]


def scheme_of(url: str) -> str:
    """``file`` of ``file:x.db``; ``:memory:`` is SQLite in memory."""
    if url == ":memory:":
        return "sqlite"
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise ConfigurationError(
            f"The database URL has no scheme: write file:{_shown(url)} for a SQLite file. "
            f"Known schemes: {', '.join(known())}"
        )
    return scheme.partition("+")[0].lower()


def _shown(text: str) -> str:
    """What stands where a URL should: a token, when two variables were mixed up."""
    return "…" if _TOKEN.fullmatch(text.strip()) else redact(text)


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
            f"No backend for {redact(url)!r}. Known schemes: {', '.join(known())}. "
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
    """The URL without password, token, query or fragment, for logs and errors."""
    scheme, slashes, rest = url.partition("//")
    if not slashes and "@" in url and not url.lower().startswith(("file:", "sqlite:")):
        # Somebody left the slashes out: what is before the @ may be a password all the same.
        head, _, tail = url.partition(":")
        return f"{head}:***@{_QUERY.split(tail.rpartition('@')[2])[0]}"
    if slashes and "@" in rest and scheme.lower() not in ("file:", "sqlite:"):
        # Up to the last @, for a password may hold any of the marks that end it elsewhere.
        credentials, _, host = rest.rpartition("@")
        user, colon, _ = credentials.partition(":")
        rest = (f"{user}:***@" if colon else "***@") + host
    elif slashes and scheme.lower() not in ("file:", "sqlite:", "memory:"):
        # Without a host, what stands where the port should is a password.
        rest = _NO_PORT.sub(r"\1***", rest)
    found = _QUERY.search(rest if slashes else url)
    if found is None:
        return scheme + slashes + rest
    head = rest if slashes else url
    return (scheme + slashes if slashes else "") + head[: found.start()] + f"{found[0]}…"


def _loaded(scheme: str, load: Callable[[], Any]) -> Opener:
    try:
        return cast("Opener", load())
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(scheme, scheme)
        raise ConfigurationError(
            f"The {scheme} backend needs {error.name}: pip install 'workflow-world[{extra}]'"
        ) from error
