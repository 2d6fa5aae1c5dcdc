"""What cannot be a database: one clear line each, and nothing altered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow_world import World, create_world
from workflow_world.errors import BackendError, ConfigurationError, SchemaError, WorldError
from workflow_world.sql import migrate

from .conftest import MakeWorld
from .helpers import content, create_run, raw

pytestmark = pytest.mark.anyio


def one_clear_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert isinstance(error, WorldError), repr(error)
    assert text
    assert "\n" not in text
    assert "Traceback" not in text
    for word in words:
        assert word in text


async def refused(world: World, *words: str) -> WorldError:
    """Its first use fails, and so does the second, in the same words."""
    messages = []
    for use in (world.runs.list, world.start):
        with pytest.raises(WorldError) as caught:
            await use()
        one_clear_line(caught.value, *words)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return caught.value


# --- URLs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://host/db", ("nonsense", "Known schemes", "file", "sqlite")),
        ("mysql://host/db", ("mysql", "Known schemes")),
        ("workflow.db", ("no scheme", "file:workflow.db", "Known schemes")),
        ("/absolute/w.db", ("no scheme", "file:/absolute/w.db")),
        (":", ("no scheme",)),
        ("file:", ("names no file", "file:workflow.db")),
        ("file://", ("names no file",)),
        ("file:~nobody-of-that-name/w.db", ("names no file", "home directory")),
        ("file:/tmp/\ud800.db", ("names no file", "surrogate")),
        ("sqlite:///", ("names no file",)),
        ("sqlite://host", ("names no file",)),
        ("file:a\0b.db", ("names no file",)),
        ("file:a%00b.db", ("names no file",)),
        ("file:w.db?mode=ro", ("?parameters", "options")),
        ("sqlite:///w.db?authToken=t0ken", ("?parameters",)),
    ],
)
def test_urls_that_name_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        create_world(url)
    one_clear_line(caught.value, *words)
    assert isinstance(caught.value, ValueError)
    assert "t0ken" not in str(caught.value)
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("file:{}/plain.db", "plain.db"),
        ("file://{}/slashes.db", "slashes.db"),
        ("FILE:{}/upper.db", "upper.db"),
        ("sqlite:///{}/four.db", "four.db"),
        ("sqlite+pysqlite:///{}/driver.db", "driver.db"),
        ("file:{}/two%20words.db", "two words.db"),
        ("file:{}/hash#mark.db", "hash#mark.db"),
        ("file:{}/100%25.db", "100%.db"),
        ("file:{}/ques%3Ftion.db", "ques?tion.db"),
        ("file:{}/ünïcode ☃.db", "ünïcode ☃.db"),
        ("file:///{}/many-slashes.db", "many-slashes.db"),
    ],
)
async def test_urls_that_name_a_file(
    make_world: MakeWorld, tmp_path: Path, url: str, name: str
) -> None:
    world = make_world(url.format(tmp_path))
    await create_run(world, "wrun_1")
    await world.close()
    assert list(content(tmp_path)) == [name]


# --- places ----------------------------------------------------------------------------------


async def test_a_directory(make_world: MakeWorld, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    error = await refused(make_world(f"file:{folder}"), str(folder), "is a directory", "must name")
    assert isinstance(error, BackendError)
    assert content(tmp_path) == {"folder": None}


async def test_a_device(make_world: MakeWorld) -> None:
    await refused(make_world("file:/dev/null"), "/dev/null is a device", "must name")


async def test_a_missing_parent(make_world: MakeWorld, tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'nowhere' / 'w.db'}"
    await refused(make_world(url), str(tmp_path / "nowhere"), "does not exist", "create it")
    assert content(tmp_path) == {}


async def test_a_parent_that_is_a_file(make_world: MakeWorld, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    await refused(make_world(f"file:{tmp_path / 'file' / 'w.db'}"), "does not exist")
    assert content(tmp_path) == {"file": b"x"}


# --- files that are something else -----------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("hello, I am a text file\n")


def short_file(path: Path) -> None:
    path.write_bytes(b"SQLite")


def other_file(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n" + bytes(9000))


NOT_SQLITE: list[Callable[[Path], None]] = [text_file, short_file, other_file]


@pytest.mark.parametrize("make", NOT_SQLITE)
async def test_a_file_that_is_not_sqlite(
    make_world: MakeWorld, path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    before = content(path.parent)
    await refused(make_world(), str(path), "not a SQLite database", "left as it is")
    assert content(path.parent) == before


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda whole: whole[:5000],
    "only the header": lambda whole: whole[:60],
    "garbage inside": lambda whole: whole[:100] + b"\xff" * 5900 + whole[6000:],
}


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES.keys())
def damaged(request: pytest.FixtureRequest, path: Path, template: bytes) -> dict[str, bytes | None]:
    """A damaged database is there. Gives: the content of its folder."""
    path.write_bytes(request.param(template))
    return content(path.parent)


async def test_a_damaged_file(
    make_world: MakeWorld, path: Path, damaged: dict[str, bytes | None]
) -> None:
    error = await refused(make_world(), "SQLite:", "restore a backup")
    assert isinstance(error, BackendError)
    assert isinstance(error.__cause__, Exception)
    assert content(path.parent) == damaged


@pytest.mark.parametrize("command", [migrate.current, migrate.check, migrate.upgrade])
def test_a_damaged_file_and_the_schema_commands(
    url: str,
    path: Path,
    damaged: dict[str, bytes | None],
    command: Callable[..., object],
) -> None:
    with pytest.raises(WorldError) as caught:
        command(url, environ={})
    one_clear_line(caught.value, "SQLite:")
    assert content(path.parent) == damaged


# --- databases of somebody else --------------------------------------------------------------

TYPESCRIPT = """
CREATE TABLE workflow_runs (
    id TEXT PRIMARY KEY, output BLOB, deployment_id TEXT NOT NULL, status TEXT NOT NULL,
    name TEXT NOT NULL, execution_context BLOB, input BLOB, error TEXT,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE TABLE workflow_events (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, type TEXT NOT NULL);
CREATE TABLE workflow_steps (run_id TEXT NOT NULL, step_id TEXT PRIMARY KEY);
CREATE TABLE workflow_hooks (run_id TEXT NOT NULL, hook_id TEXT PRIMARY KEY, token TEXT UNIQUE);
CREATE TABLE queue_messages (id TEXT PRIMARY KEY, payload BLOB);
CREATE TABLE stream_chunks (id TEXT PRIMARY KEY, stream_id TEXT NOT NULL, data BLOB);
INSERT INTO workflow_runs VALUES ('wrun_1', NULL, 'd', 'running', 'w', NULL, NULL, NULL, '', '');
"""


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("auto_migrate", [True, False])
async def test_a_database_of_the_typescript_world(
    make_world: MakeWorld, path: Path, mode: str, auto_migrate: bool
) -> None:
    with raw(path) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.executescript(TYPESCRIPT)
    before = content(path.parent)
    world = make_world(auto_migrate=auto_migrate)
    error = await refused(world, "workflow_runs", "left as they are", "table_prefix", "another")
    assert isinstance(error, SchemaError)
    await world.close()
    assert content(path.parent) == before


async def test_a_table_prefix_lives_beside_the_typescript_world(
    make_world: MakeWorld, path: Path
) -> None:
    with raw(path) as connection:
        connection.executescript(TYPESCRIPT)
        before = list(connection.iterdump())
    await create_run(make_world(table_prefix="py_"), "wrun_2")
    with raw(path) as connection:
        after = list(connection.iterdump())
    assert [line for line in after if "py_" not in line] == before


async def test_an_applications_own_tables_are_no_obstacle(
    make_world: MakeWorld, path: Path
) -> None:
    with raw(path) as connection:
        connection.executescript("CREATE TABLE customers (id); INSERT INTO customers VALUES (7)")
    await create_run(make_world(), "wrun_1")
    with raw(path) as connection:
        assert connection.execute("SELECT id FROM customers").fetchall() == [(7,)]


@pytest.mark.parametrize("auto_migrate", [True, False])
async def test_a_newer_schema(make_world: MakeWorld, path: Path, auto_migrate: bool) -> None:
    await create_run(make_world(), "wrun_1")
    await make_world().close()
    migrate.upgrade(f"file:{path}", environ={})
    with raw(path) as connection:
        connection.execute("UPDATE workflow_world_version SET version_num = '9999'")
    world = make_world(auto_migrate=auto_migrate, table_prefix=None, synchronous="normal")
    with raw(path) as connection:
        before = list(connection.iterdump())
    error = await refused(world, "9999", "up to", "upgrade workflow-world", "Nothing was altered")
    assert isinstance(error, SchemaError)
    with raw(path) as connection:
        assert list(connection.iterdump()) == before


# --- auto_migrate=False ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "environment"])
async def test_without_auto_migrate_a_missing_database(
    make_world: MakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("WORKFLOW_AUTO_MIGRATE", "false")
        world = make_world()
    else:
        world = make_world(auto_migrate=False)
    await refused(world, "does not exist", "check the path", "workflow-world db upgrade")
    assert content(tmp_path) == {}


def no_bytes(path: Path) -> None:
    path.touch()


def no_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("DROP TABLE t")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("make", [no_bytes, no_tables])
async def test_without_auto_migrate_an_empty_database(
    make_world: MakeWorld, path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    before = content(path.parent)
    world = make_world(auto_migrate=False)
    error = await refused(world, "no workflow-world schema", "run 'workflow-world db upgrade'")
    assert isinstance(error, SchemaError)
    await world.close()
    assert content(path.parent) == before


async def test_without_auto_migrate_a_good_database(
    make_world: MakeWorld, url: str, path: Path
) -> None:
    migrate.upgrade(url, environ={})
    await create_run(make_world(auto_migrate=False), "wrun_1")
