"""Database servers for a command: started once, each measurement gets a place of its own in them.

They are the tests' servers, but Postgres flushes as it does by default.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .delay import DelayingProxy

POSTGRES = ("ours-pg", "raw-pg", "pgqueuer", "dbos-pg", "floor-durable-pg")
SQLD = {"ours-sqld": 0.0, "ours-sqld-20ms": 0.020}
"""Seconds that each round trip takes longer."""
PLACE = "database.json"
_DEFAULTS = {"fsync": "on", "shared_buffers": "128MB", "max_wal_size": "1GB"}


class NoServerError(Exception):
    """There is no such server here; the message says what to install."""


class Servers:
    """A context manager: a server starts when it is first asked for, and has ended on leaving."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._postgres: Any = None
        self._sqld: Any = None
        self._proxies = dict[float, DelayingProxy]()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def url(self, contender: str) -> str | None:
        """The server's URL, or None for who needs no server. Raises: NoServerError."""
        if contender in POSTGRES:
            if self._postgres is None:
                self._postgres = self._started(_postgres)
            return str(self._postgres.url())
        if contender not in SQLD:
            return None
        if self._sqld is None:
            self._sqld = self._started(lambda: _sqld(self._directory / "sqld"))
        delay = SQLD[contender]
        if delay and delay not in self._proxies:
            proxy = DelayingProxy(self._sqld.port, delay)
            self._proxies[delay] = self._stack.enter_context(proxy)
        port = self._proxies[delay].port if delay else self._sqld.port
        return f"libsql://127.0.0.1:{port}?tls=0"

    def _started(self, make: Callable[[], Any]) -> Any:
        try:
            return self._stack.enter_context(make())
        except Exception:
            raise
        except BaseException as error:  # the tests' way to say that there is none
            if type(error).__name__ not in ("Skipped", "Failed"):
                raise
            raise NoServerError(str(error)) from error


def _postgres() -> Any:
    from tests.servers.postgres import Postgres

    return Postgres(**_DEFAULTS)


def _sqld(folder: Path) -> Any:
    from tests.servers.sqld import Sqld

    return Sqld(folder)


def settle(directory: Path, server: str) -> None:
    """A new database on the server, or a prefix for tables in it, noted in the directory."""
    name, options = f"bench_{uuid.uuid4().hex[:12]}", dict[str, Any]()
    if server.startswith("postgresql:"):
        import psycopg

        with psycopg.connect(server, autocommit=True) as connection:
            row = connection.execute("SHOW fsync").fetchone()
            assert row == ("on",), "a server without fsync is not to be measured"
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = server.rpartition("/")[0] + f"/{name}"
    else:
        url, options = server, {"table_prefix": f"{name}_"}
    (directory / PLACE).write_text(json.dumps({"url": url, "options": options}))
