"""What the tests of the SQL backend share: raw connections, counted statements, real processes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from servers.children import ChildProcess
from sqlalchemy import text

from workflow_world import World
from workflow_world.sql.compiled import Session, Statement
from workflow_world.sql.database import Database

CHILD: Final = Path(__file__).with_name("child.py")
PATIENCE_S: Final = 60
"""How long a test waits for what must happen. Only a failing test waits so long."""

QUEUE: Final = "__wkf_workflow_greet"
PREFIX: Final = "__wkf_workflow_"

TABLES: Final = (
    "workflow_runs",
    "workflow_steps",
    "workflow_events",
    "workflow_hooks",
    "queue_messages",
    "stream_chunks",
)


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection behind the package's back, in autocommit."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


def rows(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with raw(path) as connection:
        return connection.execute(sql, values).fetchall()


def count(path: Path, table: str) -> int:
    return int(rows(path, f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608  # our own names


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below ``folder``, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class Trace:
    """The statements that SQLite ran on any pooled connection, in order."""

    def __init__(self) -> None:
        self._connections: list[sqlite3.Connection] = []
        self._statements: list[str] = []

    @property
    def connections(self) -> list[sqlite3.Connection]:
        """Those that are open; migrations use connections of their own and close them."""
        return [connection for connection in self._connections if _is_open(connection)]

    def watch(self, connection: sqlite3.Connection) -> None:
        self._connections.append(connection)
        connection.set_trace_callback(self._statements.append)

    def clear(self) -> None:
        self._statements.clear()

    @property
    def heads(self) -> list[str]:
        """Each statement as its verb and table: ``INSERT workflow_runs``. Pragmas are left out:
        the watcher's polls are among them."""
        return [_head(sql) for sql in self._statements if not sql.startswith("PRAGMA")]

    def count(self, head: str) -> int:
        return self.heads.count(head)


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _head(sql: str) -> str:
    words = sql.replace("(", " ").split()
    verb = words[0].upper()
    if verb in ("INSERT", "DELETE", "CREATE"):
        return f"{verb} {words[2]}" if verb != "CREATE" else " ".join(words[:3])
    if verb == "UPDATE":
        return f"{verb} {words[1]}"
    if verb == "SELECT":
        return f"{verb} {words[words.index('FROM') + 1]}" if "FROM" in words else verb
    return " ".join(words)


def scratch(path: Path) -> None:
    """A table for operations that are nobody's: an integer, each at most once."""
    with raw(path) as connection:
        connection.execute("CREATE TABLE scratch (n INTEGER PRIMARY KEY)")


def numbers(path: Path) -> list[int]:
    return [row[0] for row in rows(path, "SELECT n FROM scratch ORDER BY n")]


_INSERT: Final = Statement("insert number", text("INSERT INTO scratch (n) VALUES (:n)"))


def adding(*values: int) -> Callable[[Session], int]:
    """An operation that stores numbers and returns how many."""

    def operation(session: Session) -> int:
        return sum(session.run(_INSERT, n=value) for value in values)

    return operation


class Held:
    """Keeps a database's write lane busy, so that what is submitted meanwhile is one batch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._gate = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # From a thread: an operation that waits for the event loop must not run on it.
        self._task = asyncio.create_task(
            asyncio.to_thread(self._database.write_blocking, self._hold)
        )
        async with asyncio.timeout(PATIENCE_S):
            await self._entered.wait()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        # Everything that was started has reached the lane after a few turns of the loop.
        for _ in range(20):
            await asyncio.sleep(0)
        self._gate.set()
        assert self._task is not None
        await self._task

    def _hold(self, session: Session) -> None:
        self._loop.call_soon_threadsafe(self._entered.set)
        asyncio.run_coroutine_threadsafe(self._gate.wait(), self._loop).result(PATIENCE_S)


class Child(ChildProcess):
    """A process of its own that runs a command of ``child.py``; killed at the end."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(CHILD, *arguments)

    def end(self) -> str:
        """Wait for a good end. Returns: the rest of what it printed."""
        out, err = self.finish(timeout=PATIENCE_S)
        assert not err, err
        return out


async def line_of(child: Child) -> str:
    """The next line, without holding up the event loop."""
    return await asyncio.to_thread(child.line)


def creation(name: str = "greet", **data: object) -> dict[str, object]:
    """A ``run_created`` event."""
    return {
        "eventType": "run_created",
        "eventData": {"deploymentId": "dpl_1", "workflowName": name, "input": [1], **data},
    }


async def create_run(world: World, run_id: str) -> None:
    await world.events.create(run_id, creation())


async def step_event(world: World, run_id: str, kind: str, step_id: str = "step_1") -> None:
    data: dict[str, dict[str, object]] = {
        "step_created": {"stepName": "add", "input": b"in"},
        "step_completed": {"result": b"out"},
        "step_failed": {"error": b"boom"},
        "step_retrying": {"error": b"boom"},
    }
    event = {"eventType": kind, "correlationId": step_id, "eventData": data.get(kind)}
    await world.events.create(run_id, event)


async def watched(trace: Trace, before: int) -> None:
    """Until the watcher, or whoever comes next, has made a connection."""
    async with asyncio.timeout(PATIENCE_S):
        while len(trace.connections) <= before:  # noqa: ASYNC110  # a thread makes it
            await asyncio.sleep(0.005)


async def within_patience(awaitable: Awaitable[Any]) -> Any:
    """The result, or a failed test instead of a hanging one."""
    async with asyncio.timeout(PATIENCE_S / 2):
        return await awaitable
