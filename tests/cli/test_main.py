"""The entry point itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import workflow_world
from workflow_world.cli.common import load_dotenv

from .conftest import Call, Spawn


def test_version(spawn: Spawn) -> None:
    result = spawn("--version")
    assert result.returncode == 0
    assert result.stdout == f"workflow-world, version {workflow_world.__version__}\n"


def test_version_waits_for_no_database_library() -> None:
    """Importing SQLAlchemy takes longer than all the rest of it."""
    code = (
        "import sys; from workflow_world.cli.app import app\n"
        "try: app(['--version'])\n"
        "finally: print({'sqlalchemy', 'alembic', 'psycopg', 'vercel'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert result.stdout.splitlines()[1:] == ["set()"]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_the_commands(spawn: Spawn, option: str) -> None:
    result = spawn(option)
    assert result.returncode == 0
    for command in ("demo", "worker", "setup", "db", "status", "purge"):
        assert f"  {command} " in result.stdout


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from workflow_world.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"error: the command line needs {missing}: pip install 'workflow-world[cli]'\n"
    )


def test_dotenv_takes_our_names_only_and_never_overrides(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "WORKFLOW_CONCURRENCY=5\n"
        'export WORKFLOW_DEBUG="1"\n'
        "# WORKFLOW_ENVIRONMENT=no\n"
        "WORKFLOW_MAX_RETRIES = '7'\n"
        "DATABASE_PASSWORD=secret\n"
        "PORT=8000 # of uvicorn\n"
        'WORKFLOW_DATABASE_URL="file:a b.db#1" # in production\n'
        "WORKFLOW_SERVICE_URL=http://h/#x\t#y\n"
        "WORKFLOW_DEPLOYMENT_ID= # none\n"
        "not an assignment\n"
    )
    environ = {"WORKFLOW_CONCURRENCY": "9", "WORKFLOW_DEBUG": ""}
    load_dotenv(path, environ)
    assert environ == {
        "WORKFLOW_CONCURRENCY": "9",
        "WORKFLOW_DEBUG": "1",
        "WORKFLOW_MAX_RETRIES": "7",
        "PORT": "8000",
        "WORKFLOW_DATABASE_URL": "file:a b.db#1",
        "WORKFLOW_SERVICE_URL": "http://h/#x",
        "WORKFLOW_DEPLOYMENT_ID": "",
    }
    load_dotenv(tmp_path / "missing", environ)
    load_dotenv(tmp_path, environ)


@pytest.mark.parametrize("command", [("status",), ("purge",), ("check",), ("inspect", "runs")])
def test_memory_cannot_be_looked_at(call: Call, command: tuple[str, ...]) -> None:
    result = call(*command, "--url", "memory:")
    assert result.exit_code == (2 if command == ("check",) else 1)
    assert "memory: is the memory of one process" in result.stderr
