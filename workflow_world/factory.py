"""``create_world`` and ``install``: from a URL and options to a World."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from typing import Any

from . import registry
from .clock import SYSTEM_CLOCK, Clock
from .debug import enable_debug_logging
from .errors import ConfigurationError
from .settings import env_text, resolve
from .world import World

DEFAULT_URL = "file:workflow.db"
URL_VARIABLES = ("WORKFLOW_TURSO_DATABASE_URL", "WORKFLOW_DATABASE_URL", "WORKFLOW_MONGODB_URI")
_MONGODB_TTL_MS = 60_000


def create_world(
    database_url: str | None = None, *, clock: Clock = SYSTEM_CLOCK, **options: Any
) -> World:
    """A World on the database that the URL names. No I/O happens before its first use.

    Args:
        database_url: ``file:relative.db``, ``file:/absolute.db``, ``:memory:`` or ``sqlite:///…``;
            default: ``WORKFLOW_TURSO_DATABASE_URL``, ``WORKFLOW_DATABASE_URL``,
            ``WORKFLOW_MONGODB_URI``, then ``file:workflow.db``.
        clock: where the time comes from; tests bring their own.
        options: see ``Settings`` and the backend's own; None means "not given".

    Raises: ConfigurationError for a URL or value that cannot work; TypeError for an unknown
        option.
    """
    url = database_url or env_text(URL_VARIABLES, os.environ) or DEFAULT_URL
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"database_url must be text, not {type(url).__name__}")
    url = url.strip()
    is_mongodb = registry.scheme_of(url) == "mongodb"
    if is_mongodb and options.get("idempotency_ttl_ms") is None:
        options["idempotency_ttl_ms"] = _MONGODB_TTL_MS  # spec 4.4
    settings, backend_options = resolve(options)
    if is_mongodb and settings.deployment_id is None:
        settings = replace(settings, deployment_id="dpl_mongodb")  # spec 6.2
    if settings.debug is not None:
        enable_debug_logging(settings.debug)
    backend = registry.open_backend(url, clock=clock, environ=os.environ, options=backend_options)
    return World(backend, settings, clock=clock, url=registry.redact(url))


def install(database_url: str | None = None, **options: Any) -> World:
    """``create_world``, and have the Workflow SDK use it. Call it before ``Workflows()``.

    Raises: ConfigurationError when the SDK is missing, outside the tested versions, or has
        already built its handlers on another World; and what ``create_world`` raises.
    """
    try:
        found = importlib.util.find_spec("vercel.workflow") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise ConfigurationError(
            "install() needs the Workflow SDK: pip install 'workflow-world[sdk]'"
        )
    from .vercel import attach

    return attach(lambda: create_world(database_url, **options))
