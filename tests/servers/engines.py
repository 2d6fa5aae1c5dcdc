"""The engines that one test runs on in turn: each gives empty databases with our tables, by URL.

One more engine is one more class here and its name in ``ENGINES``.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from workflow_world import hrana
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.core.values import from_ms
from workflow_world.mongodb import open_backend
from workflow_world.sql import migrate

from . import mongodb, postgres
from .sqld import Signer, Sqld

ENGINES: Final = ("sqlite", "postgres", "libsql")
"""Those on SQL."""
ALL: Final = (*ENGINES, "mongodb")
APART: Final[dict[str, dict[str, Any]]] = {
    "sqlite": {"synchronous": "normal"},
    "postgres": {"pool_size": 4},
    "libsql": {"request_timeout_ms": 29_000},
    "mongodb": {"use_change_streams": False},
}
"""Options that give a second World a handle of its own: the two race as two processes do."""
_FREE: Final = "UPDATE queue_messages SET leased_until = 1 WHERE status = 'processing'"


class Engine(Protocol):
    """What a test asks of an engine.

    Attributes:
        name: one of ``ALL``.
        proves_absence: a starting worker can prove that no other one lives (design 7).
        place: what another process calls ``attached`` with.
    """

    name: str
    proves_absence: bool
    place: str

    def database(self) -> AbstractContextManager[str]:
        """A database of its own, by URL; gone at the end."""
        ...

    def bury(self, url: str) -> None:
        """Returns when nothing of the dead processes goes on in the database. Where nobody can
        prove that they are dead, their leases end now, as they would in time."""
        ...


class Files:
    """SQLite, in a folder. Copies of one file that was made once."""

    name = "sqlite"
    proves_absence = True

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._folder, self._empty = folder, folder / "empty.db"
        if not self._empty.exists():
            migrate.upgrade(f"file:{self._empty}", environ={})

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "w.db"
            shutil.copyfile(self._empty, path)
            yield f"file:{path}"

    def bury(self, url: str) -> None:
        """What they had open is closed; the next worker frees their leases."""


class Databases:
    """Postgres. Copies of one database that was made once."""

    name = "postgres"
    proves_absence = False

    def __init__(self, server: postgres.Server, template: str) -> None:
        self.place = server.url(template)
        self._server, self._template = server, template

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        name = self._server.create(self._template)
        try:
            yield self._server.url(name)
        finally:
            self._server.drop(name)

    def bury(self, url: str) -> None:
        name = url.rpartition("/")[2]
        others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608
        while self._server.execute(others) != [(0,)]:
            time.sleep(0.005)
        self._server.execute(_FREE, name)


class Servers:
    """Remote libSQL. A server has one database, so each has one of its own, in a folder that is
    a copy of one that was made once."""

    name = "libsql"
    proves_absence = False

    def __init__(self, folder: Path) -> None:
        self.place = f"libsql:{folder}"
        self._folder = folder
        self._running: dict[str, Sqld] = {}

    def prepare(self) -> None:
        with self._server(self._folder) as server:
            migrate.upgrade(self._url(server), environ={})

    def _server(self, folder: Path) -> Sqld:
        return Sqld(folder)

    def _url(self, server: Sqld) -> str:
        return server.url

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            server = self._server(Path(folder))
            shutil.copytree(self._folder / server.data.name, server.data)
            with server:
                self._running[url := self._url(server)] = server
                try:
                    yield url
                finally:
                    del self._running[url]

    def bury(self, url: str) -> None:
        """The server does not see that a client died, and would keep the lock of its transaction
        for five seconds; one that is started anew has none."""
        server = self._running[url]
        server.kill()
        server.start()
        with contextlib.closing(hrana.connect(url)) as connection:
            connection.execute(_FREE)


class GuardedServers(Servers):
    """The same, but every request needs a token, which is in the URL."""

    name = "libsql-auth"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._signer = Signer()

    def _server(self, folder: Path) -> Sqld:
        return Sqld(folder, key=self._signer.key)

    def _url(self, server: Sqld) -> str:
        return f"{server.url}&authToken={self._signer.token()}"


class Collections:
    """MongoDB, with change streams."""

    name = "mongodb"
    proves_absence = False

    def __init__(self, server: mongodb.Server) -> None:
        self.place = server.url("")
        self._server = server

    def database(self) -> AbstractContextManager[str]:
        return self._server.database()

    def bury(self, url: str) -> None:
        backend = open_backend(url, clock=SYSTEM_CLOCK, environ={}, shared=False)
        try:
            # What a dead process has committed is applied first.
            backend.database.journal.settled()
            backend.database.tables["queue_messages"].update_many(
                {"status": "processing"}, {"$set": {"leased_until": from_ms(1)}}
            )
        finally:
            backend.database.close()


def attached(place: str) -> Engine:
    """The engine of another process, by its ``place``."""
    if place.startswith("mongodb:"):
        return Collections(mongodb.Server(place))
    kind, _, folder = place.rpartition(":")
    if place.startswith("postgresql:"):
        return Databases(postgres.Server(place), place.rpartition("/")[2])
    return Servers(Path(folder)) if kind == "libsql" else Files(Path(place))


@contextlib.contextmanager
def running(name: str) -> Generator[Engine]:
    """An engine by its name; its server is started, unless it runs already, and stopped."""
    if name == "mongodb":
        with mongodb.running(streams=True) as found:
            yield Collections(found)
        return
    if name != "postgres":
        with tempfile.TemporaryDirectory(prefix="workflow-world-") as folder:
            if name == "sqlite":
                yield Files(Path(folder))
                return
            made = {one.name: one for one in (Servers, GuardedServers)}[name]
            servers = made(Path(folder))
            servers.prepare()
            yield servers
        return
    with postgres.running() as server:
        template = server.create()
        try:
            migrate.upgrade(server.url(template), environ={})
            yield Databases(server, template)
        finally:
            server.drop(template)


class Running:
    """Engines by name, each started when it is first asked for; all are stopped by ``close``."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._found: dict[str, Engine] = {}

    def __call__(self, name: str) -> Engine:
        if name not in self._found:
            self._found[name] = self._stack.enter_context(running(name))
        return self._found[name]

    def close(self) -> None:
        self._stack.close()
