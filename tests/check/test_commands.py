"""``workflow-world check`` and ``repair``: what they print, and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner, Result

from workflow_world.check import KINDS
from workflow_world.cli.app import app

from .stores import BUSY, PENDING, Store

Call: TypeAlias = Callable[..., Result]

STEP = f"UPDATE workflow_steps SET attempt = 9 WHERE run_id = '{BUSY}'"  # noqa: S608
MESSAGE = f"DELETE FROM queue_messages WHERE run_id = '{PENDING}'"  # noqa: S608
EVENT = f"DELETE FROM workflow_events WHERE run_id = '{BUSY}' AND position = 5"  # noqa: S608
LOG = f"DELETE FROM workflow_events WHERE run_id = '{PENDING}'"  # noqa: S608


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call() -> Call:
    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))

    return run


def read(result: Result, code: int) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_clean_store(call: Call, store: Store) -> None:
    for arguments in ((store.url,), ("--url", store.url), (store.url, "--no-streams")):
        result = call("check", *arguments)
        assert result.exit_code == 0, result.output
        assert "Nothing is wrong." in result.stdout
        assert "Looked at 5 runs, 40 events" in result.stdout
    nothing = call("repair", store.url, "--apply")
    assert nothing.exit_code == 0
    assert "Nothing is wrong." in nothing.stdout
    content = read(call("check", store.url, "--json"), 0)
    assert content["clean"] is True
    assert content["findings"] == []
    assert content["seen"]["runs"] == 5


def test_findings(call: Call, store: Store) -> None:
    store.damage(STEP, LOG)
    result = call("check", store.url)
    assert result.exit_code == 1
    for word in ("step-differs", "run-without-log", BUSY, PENDING, "attempt"):
        assert word in result.stdout
    content = read(call("check", "--url", store.url, "--json"), 1)
    assert content["kinds"] == {"run-without-log": 1, "step-differs": 2}
    assert content["total"] == 3
    assert content["findings"][0] == {
        "kind": "step-differs",
        "run_id": BUSY,
        "subject": content["findings"][0]["subject"],
        "fields": ["attempt"],
        "detail": "differs from the log in attempt",
    }
    assert len(read(call("check", store.url, "--json", "--limit", "1"), 1)["findings"]) == 1
    assert "Only the first 1 are listed" in call("check", store.url, "--limit", "1").stdout


def test_repair_shows_first_and_then_does_it(call: Call, store: Store) -> None:
    store.damage(STEP, MESSAGE)
    shown = call("repair", store.url)
    assert shown.exit_code == 1
    assert "rebuild" in shown.stdout
    assert "wake" in shown.stdout
    assert "Nothing was changed" in shown.stdout
    assert read(call("check", store.url, "--json"), 1)["total"] == 3
    planned = read(call("repair", store.url, "--json"), 1)
    assert [one["done"] for one in planned["repairs"]] == [False, False]
    assert (planned["applied"], planned["left"]) == (False, [])

    done = call("repair", store.url, "--apply")
    assert done.exit_code == 0, done.output
    assert "NOT DONE" not in done.stdout
    assert call("check", store.url).exit_code == 0
    again = read(call("repair", store.url, "--apply", "--json"), 0)
    assert again["repairs"] == []
    assert again["left"] == []


def test_repair_says_what_it_leaves(call: Call, store: Store) -> None:
    store.damage(EVENT, MESSAGE)
    for _ in range(2):
        result = call("repair", store.url, "--apply")
        assert result.exit_code == 1
        assert "not repaired" in result.stdout
        assert KINDS["log-gap"].advice[:40] in result.stdout
    content = read(call("repair", store.url, "--apply", "--json"), 1)
    assert content["repairs"] == []
    assert content["left"][0]["kind"] == "log-gap"
    assert content["left"][0]["advice"] == KINDS["log-gap"].advice


def test_a_repair_of_more_than_is_listed_asks_for_another_pass(call: Call, store: Store) -> None:
    store.damage("UPDATE workflow_runs SET error_code = 'X' WHERE spec_version > 1")
    first = call("repair", store.url, "--apply", "--limit", "3")
    assert first.exit_code == 1
    assert "Only the first 3 are listed" in first.stdout
    assert call("repair", store.url, "--apply", "--limit", "3").exit_code == 0
    assert call("check", store.url).exit_code == 0


@pytest.mark.parametrize("command", ["check", "repair"])
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:missing.db", "missing.db"),
        ("file:folder", "is a directory"),
        ("file:text.db", "not a SQLite database"),
        ("file:empty.db", "workflow-world db upgrade"),
        ("nonsense://x", "Known schemes"),
    ],
)
def test_exits_with_2_when_it_cannot_look(
    call: Call, place: Path, command: str, url: str, expected: str
) -> None:
    (place / "folder").mkdir()
    (place / "text.db").write_text("hello, I am a text file\n")
    (place / "empty.db").touch()
    before = sorted(path.name for path in place.iterdir())
    result = call(command, url)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_broken_file_is_not_called_clean(call: Call, store: Store) -> None:
    """Pages of the file itself are overwritten: whatever is reported, it is not 0."""
    content = bytearray(store.path.read_bytes())
    half = len(content) // 2
    content[half:] = b"\xff" * (len(content) - half)
    store.path.write_bytes(content)
    assert call("check", store.url).exit_code in (1, 2)


def test_of_a_real_process(store: Store) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workflow_world", *arguments],
            env=os.environ | {"WORKFLOW_DATABASE_URL": store.url},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    clean = run("check")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "\x1b" not in clean.stdout
    store.damage(STEP)
    damaged = run("check", "--json")
    assert (damaged.returncode, damaged.stderr) == (1, "")
    assert json.loads(damaged.stdout)["kinds"] == {"step-differs": 2}


def test_ids_are_shown_as_they_are(call: Call, store: Store) -> None:
    """Ids are anybody's text: no markup of theirs reaches the terminal."""
    name = "[red]x[/red]"
    store.damage(
        "INSERT INTO workflow_steps (run_id, step_id, step_name, status, attempt, created_at, "
        "updated_at) VALUES (:run, :name, 'n', 'pending', 1, 1, 1)",
        run=PENDING,
        name=name,
    )
    assert name in call("check", store.url).stdout
    assert name in call("repair", store.url).stdout


def test_ids_are_whole_in_a_narrow_terminal(store: Store) -> None:
    store.damage(STEP)
    result = CliRunner(env={"COLUMNS": "60"}).invoke(app, ["check", store.url])
    lines = [line.split("│") for line in result.stdout.splitlines() if line.startswith("│")]
    assert BUSY in "".join(cells[2].strip() for cells in lines)
