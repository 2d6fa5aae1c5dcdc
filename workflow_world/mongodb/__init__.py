"""The MongoDB backend: one server or a replica set, the same code path on both (design 8).

journal.py      the commit of a batch: how a crash leaves nothing or all of it
transaction.py  what a batch reads and is going to write
lane.py         what waits together is one batch
database.py     what the handles of a process share
documents.py    entities as documents
intents.py      an intent: load its facts, let it decide, apply the decision
runs.py  lists.py  stranded.py    runs and their logs
queue.py  upkeep.py  streams.py   messages and chunks
watch.py        news of other processes
schema.py  client.py  backend.py  indexes, the driver, one handle
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigurationError
from ..settings import env_switch, env_text
from .backend import MongoBackend
from .client import DEFAULT_NAME, Client, name_in
from .database import Database

__all__ = ["MongoBackend", "open_backend"]

_THE_SERVERS_OWN: Final = ("config", "local")


def open_backend(
    url: str,
    *,
    clock: Clock = SYSTEM_CLOCK,
    environ: Mapping[str, str] | None = None,
    shared: bool = True,
    auto_migrate: bool | None = None,
    database_name: str | None = None,
    use_change_streams: bool | None = None,
    client: Client | None = None,
) -> MongoBackend:
    """A handle on the database that the URL names; no I/O yet.

    Args:
        shared: one client for all handles of this process on the same URL, options and clock;
            False gives this handle its own.
        auto_migrate: make collections and indexes that are missing (environment
            ``WORKFLOW_AUTO_MIGRATE``, default on); off: only check.
        database_name: which database (environment ``WORKFLOW_MONGODB_DATABASE_NAME``); default: the
            one in the URL's path, else ``workflow``.
        use_change_streams: where the server has them (environment
            ``WORKFLOW_MONGODB_CHANGE_STREAMS``, default on); otherwise the journal is looked at.
        client: a ``pymongo.MongoClient`` of the caller's, which is never closed.

    Raises: ConfigurationError; TypeError for an unknown option.
    """
    env = os.environ if environ is None else environ
    in_url = name_in(url)
    name = database_name or in_url or env_text(("WORKFLOW_MONGODB_DATABASE_NAME",), env)
    name = _checked(name or DEFAULT_NAME)
    if auto_migrate is None:
        auto_migrate = env_switch("WORKFLOW_AUTO_MIGRATE", env)
    if use_change_streams is None:
        use_change_streams = env_switch("WORKFLOW_MONGODB_CHANGE_STREAMS", env)
    options: dict[str, Any] = {
        "clock": clock,
        "auto_migrate": auto_migrate is not False,
        "change_streams": use_change_streams is not False,
        "client": client,
    }
    for given, value in (
        ("auto_migrate", auto_migrate),
        ("use_change_streams", use_change_streams),
    ):
        if value not in (None, True, False):
            raise ConfigurationError(f"{given} must be True or False, not {value!r:.60}")

    def make() -> Database:
        return Database(url, name, **options)

    key = (url, name, id(clock), options["auto_migrate"], options["change_streams"], id(client))
    return MongoBackend(make, key if shared else None)


def _checked(name: str) -> str:
    """What every server takes as the name of a database, and has for its users."""
    try:
        size = len(name.encode())
    except (AttributeError, UnicodeEncodeError):
        size = 99
    if size > 63 or set(name) & set('/\\. "$*<>:|?\0') or name in _THE_SERVERS_OWN:
        raise ConfigurationError(
            'The name of a MongoDB database has 63 bytes at most and none of / \\ . " $ * < > : | ?'
            f" and spaces, and is none of {', '.join(_THE_SERVERS_OWN)}"
        )
    return name
