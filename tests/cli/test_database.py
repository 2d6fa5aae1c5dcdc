"""``workflow-world db``, ``setup`` and the errors that all commands share."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import pytest

from .conftest import Call, Spawn

TABLES = {
    "workflow_runs",
    "workflow_steps",
    "workflow_events",
    "workflow_hooks",
    "queue_messages",
    "stream_chunks",
    "workflow_world_version",
}


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        connection.close()
    return {row[0] for row in rows if not row[0].startswith("sqlite_")}


@pytest.mark.parametrize("command", [("setup",), ("db", "upgrade")])
def test_creates_the_schema_and_can_be_repeated(
    call: Call, place: Path, command: tuple[str, ...]
) -> None:
    for _ in range(2):
        result = call(*command, "--url", "file:new.db")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("file:new.db: the schema is at 0001")
    assert tables(place / "new.db") == TABLES
    assert stat.S_IMODE((place / "new.db").stat().st_mode) == 0o600


def test_default_is_workflow_db(call: Call, place: Path) -> None:
    assert call("setup").exit_code == 0
    assert tables(place / "workflow.db") == TABLES


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WORKFLOW_DATABASE_URL": "file:a.db"}, "a.db"),
        (
            {"WORKFLOW_DATABASE_URL": "file:a.db", "WORKFLOW_TURSO_DATABASE_URL": "file:b.db"},
            "b.db",
        ),
        ({"WORKFLOW_DATABASE_URL": ""}, "workflow.db"),
    ],
)
def test_url_from_the_environment(
    call: Call,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert call("setup").exit_code == 0
    assert [path.name for path in place.glob("*.db")] == [expected]


def test_option_wins_over_the_environment(
    call: Call, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_DATABASE_URL", "file:a.db")
    assert call("setup", "--url", "file:b.db").exit_code == 0
    assert [path.name for path in place.glob("*.db")] == ["b.db"]


def test_dotenv_is_read(spawn: Spawn, place: Path) -> None:
    (place / ".env").write_text("# ours\nexport WORKFLOW_DATABASE_URL='file:dot.db'\nOTHER=1\n")
    assert spawn("setup").returncode == 0
    assert tables(place / "dot.db") == TABLES


def test_table_prefix(call: Call, place: Path) -> None:
    assert call("db", "upgrade", "--table-prefix", "x_").exit_code == 0
    assert tables(place / "workflow.db") == {f"x_{name}" for name in TABLES}
    assert call("db", "check", "--table-prefix", "x_").exit_code == 0
    assert call("db", "check").exit_code == 1


@pytest.mark.parametrize(
    "command",
    [
        ("setup",),
        *(("db", name) for name in ("upgrade", "check", "current", "sql")),
        ("status",),
        ("purge",),
        ("repair",),
    ],
)
def test_a_schema_is_for_postgres(call: Call, place: Path, command: tuple[str, ...]) -> None:
    result = call(*command, "--schema", "flows")
    assert result.exit_code in (1, 2)
    assert "SQLite has no option schema" in one_line(result.stderr)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("command", ["sql", "upgrade", "grants"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("table_prefix", 'x"y'),
        ("table_prefix", "x" * 32),
        ("table_prefix", "sqlite_"),
        ("table_prefix", "a\0b"),
        ("schema", 'x"; DROP'),
        ("schema", "x" * 64),
        ("schema", "pg_x"),
        ("schema", "a\0b"),
        ("schema", ""),
    ],
)
def test_names_that_cannot_be(call: Call, command: str, option: str, value: str) -> None:
    """Refused before anything is connected to."""
    role = ["--role", "clerk"] if command == "grants" else []
    about = [f"--{option.replace('_', '-')}", value]
    result = call("db", command, "--url", "postgresql://nowhere.invalid/db", *role, *about)
    assert result.exit_code == 1
    assert f"{option} must be" in one_line(result.stderr)


def test_grants_are_printed_for_postgres_only(call: Call) -> None:
    about = ("db", "grants", "--role", "clerk")
    assert "has no roles" in one_line(call(*about, "--url", "file:x.db").stderr)
    result = call(*about, "--url", "postgresql://me:s3cret@host/db", "--table-prefix", "x_")
    assert result.exit_code == 0
    assert 'GRANT CONNECT ON DATABASE "db" TO "clerk";' in result.stdout
    assert '"public"."x_workflow_runs" TO "clerk"' in result.stdout
    assert "s3cret" not in result.output


def test_current_and_check(call: Call, place: Path) -> None:
    sqlite3.connect(place / "empty.db").close()
    assert call("db", "current", "--url", "file:empty.db").stdout == "none\n"
    refused = call("db", "check", "--url", "file:empty.db")
    assert refused.exit_code == 1
    assert "run 'workflow-world db upgrade'" in refused.stderr
    assert tables(place / "empty.db") == set()

    assert call("db", "upgrade", "--url", "file:empty.db").exit_code == 0
    assert call("db", "current", "--url", "file:empty.db").stdout == "0001\n"
    assert call("db", "check", "--url", "file:empty.db").exit_code == 0


def test_sql_creates_the_same_tables_and_touches_nothing(call: Call, place: Path) -> None:
    result = call("db", "sql")
    assert result.exit_code == 0, result.output
    assert list(place.iterdir()) == []
    connection = sqlite3.connect(place / "by-hand.db")
    try:
        connection.executescript(result.stdout)
    finally:
        connection.close()
    assert tables(place / "by-hand.db") == TABLES
    assert call("db", "check", "--url", "file:by-hand.db").exit_code == 0


READERS = [("db", "check"), ("db", "current"), ("status",), ("purge",)]
WRITERS = [("setup",), ("db", "upgrade")]


@pytest.mark.parametrize("command", READERS)
def test_a_missing_file_is_not_created(call: Call, place: Path, command: tuple[str, ...]) -> None:
    result = call(*command, "--url", "file:missing.db")
    assert result.exit_code == 1
    assert "missing.db" in one_line(result.stderr)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("command", READERS + WRITERS)
def test_foreign_tables_are_left_alone(call: Call, place: Path, command: tuple[str, ...]) -> None:
    connection = sqlite3.connect(place / "other.db")
    connection.execute("CREATE TABLE workflow_runs (id TEXT PRIMARY KEY)")
    connection.close()
    before = (place / "other.db").read_bytes()
    result = call(*command, "--url", "file:other.db")
    assert result.exit_code == 1
    assert "table_prefix" in one_line(result.stderr)
    assert (place / "other.db").read_bytes() == before


@pytest.mark.parametrize("command", READERS + WRITERS)
def test_a_newer_schema_is_refused(call: Call, place: Path, command: tuple[str, ...]) -> None:
    assert call("setup").exit_code == 0
    connection = sqlite3.connect(place / "workflow.db")
    connection.execute("UPDATE workflow_world_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    result = call(*command)
    assert result.exit_code == 1
    assert "9999" in one_line(result.stderr)
    assert "upgrade workflow-world" in result.stderr


@pytest.mark.parametrize("command", READERS + WRITERS)
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:folder", "is a directory"),
        ("file:text.db", "not a SQLite database"),
        ("file:nowhere/x.db", "does not exist"),
        ("nonsense://x", "Known schemes"),
        ("workflow.db", "file:workflow.db"),
    ],
)
def test_bad_urls_are_one_line(
    call: Call, place: Path, command: tuple[str, ...], url: str, expected: str
) -> None:
    (place / "folder").mkdir()
    (place / "text.db").write_text("hello, I am a text file\n")
    result = call(*command, "--url", url)
    assert result.exit_code == 1, result.output
    assert expected in one_line(result.stderr)
    assert (place / "text.db").read_text() == "hello, I am a text file\n"
    assert sorted(path.name for path in place.iterdir()) == ["folder", "text.db"]


@pytest.mark.parametrize("command", ["upgrade", "check", "current", "sql"])
def test_a_backend_without_a_schema_is_refused(call: Call, command: str) -> None:
    result = call("db", command, "--url", "memory:")
    assert result.exit_code == 1
    assert "memory: is not a SQL database" in one_line(result.stderr)


def test_verbose_adds_the_traceback(spawn: Spawn) -> None:
    quiet = spawn("db", "check", "--url", "nonsense:x")
    assert quiet.returncode == 1
    assert "Traceback" not in quiet.stderr
    loud = spawn("db", "check", "--url", "nonsense:x", "-v")
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr
    assert loud.stderr.splitlines()[-1].startswith("error: ")


def test_a_password_is_not_shown(call: Call) -> None:
    result = call("setup", "--url", "nonsense://user:s3cret@host/db?authToken=t0ken")
    assert result.exit_code == 1
    assert "s3cret" not in result.output
    assert "t0ken" not in result.output


def test_json_status_of_a_new_database(call: Call) -> None:
    assert call("setup").exit_code == 0
    result = call("status", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "url": "file:workflow.db",
        "queues": {},
        "oldest_due_at": None,
        "oldest_due_age_s": None,
        "oldest_claimed_at": None,
        "oldest_claimed_age_s": None,
    }


def one_line(stderr: str) -> str:
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr
