"""The collections, their indexes, and whether the database is ours."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pymongo.errors import DuplicateKeyError

from ..errors import SchemaError
from .client import Tables, translated
from .documents import CHUNKS, EVENTS, HOOKS, MESSAGES, RUNS, STEPS
from .journal import META, Journal
from .transaction import GONE

VERSION: Final = 1
_KEY: Final = "schema"

_Index = tuple[Sequence[tuple[str, int]], Mapping[str, Any]]
_UNIQUE: Final[Mapping[str, Any]] = {"unique": True}
_ONCE: Final[Mapping[str, Any]] = {"unique": True, "sparse": True}
"""Only documents that have the field: those of which there may be one."""


def _by(*names: str) -> list[tuple[str, int]]:
    return [(name, 1) for name in names]


INDEXES: Final[Mapping[str, Sequence[_Index]]] = {
    RUNS.collection: (
        (_by("created_at", "_id"), {}),
        (_by("status", "_id"), {}),
        (_by("status", "created_at", "_id"), {}),
        (_by("workflow_name", "created_at", "_id"), {}),
    ),
    STEPS.collection: (
        (_by("run_id", "created_at", "step_id"), {}),
        (_by("step_id", "created_at"), {}),
    ),
    EVENTS.collection: (
        (_by("run_id", "position"), _UNIQUE),
        (_by("run_id", "event_id"), {}),
        (_by("correlation_id", "created_at", "run_id", "position"), {}),
        (_by("event_type", "created_at", "run_id", "correlation_id"), {}),
        (_by("once"), _ONCE),
        (_by("resumed"), _ONCE),
        (_by("open_wait", "due_at"), {"sparse": True}),
    ),
    HOOKS.collection: (
        (_by("token"), _ONCE),
        (_by("created_at", "run_id", "hook_id"), {}),
        (_by("run_id", "created_at", "hook_id"), {}),
        (_by("hook_id", "created_at"), {}),
        (_by(GONE), {"sparse": True}),
    ),
    MESSAGES.collection: (
        (_by("status", "available_at", "_id"), {}),
        (_by("status", "leased_until"), {}),
        (_by("status", "processed_at"), {}),
        (_by("run_id", "status"), {}),
        (_by("idempotency_key", "status"), {}),
        (_by("held_key"), {"sparse": True}),
        (_by(GONE), {"sparse": True}),
    ),
    CHUNKS: ((_by("run_id", "stream_name", "chunk_index"), _UNIQUE),),
}


def create(tables: Tables, journal: Journal, now: datetime) -> None:
    """Whatever is missing; several processes may do so at once. Raises: SchemaError."""
    with translated():
        if _check(tables) == VERSION:
            return
        for collection, indexes in INDEXES.items():
            for keys, options in indexes:
                tables[collection].create_index(list(keys), **options)
        # The version last: where it is, a journal that is missing has been lost.
        journal.create(now)
        with contextlib.suppress(DuplicateKeyError):  # another process was faster
            tables[META].update_one(
                {"_id": _KEY}, {"$setOnInsert": {"version": VERSION}}, upsert=True
            )


def check(tables: Tables) -> None:
    """Raises: SchemaError unless the database has been set up."""
    with translated():
        if _check(tables) is None:
            raise SchemaError(
                "The MongoDB database has not been set up: run workflow-world setup, or let a "
                "World with auto_migrate=True, its default, open it once"
            )


def _check(tables: Tables) -> int | None:
    """The version of what is there, or None. Raises: SchemaError."""
    found = tables[META].find_one({"_id": _KEY})
    if found is None:
        names = {*tables.list_collection_names()} & set(INDEXES)
        strange = sorted(name for name in names if tables[name].find_one({}) is not None)
        # Another process may have set it up meanwhile, and written there.
        found = tables[META].find_one({"_id": _KEY}) if strange else None
        if strange and found is None:
            raise SchemaError(
                f"The MongoDB database has collections {', '.join(strange)} of another "
                "application, which are left alone: choose another database, in the URL's path "
                "or by WORKFLOW_MONGODB_DATABASE_NAME"
            )
        if found is None:
            return None
    version = found.get("version")
    if version != VERSION:
        raise SchemaError(
            f"The MongoDB database has version {version!r:.20}, and this release reads version "
            f"{VERSION}: install the release of workflow-world that wrote it"
        )
    return VERSION
