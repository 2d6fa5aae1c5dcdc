"""What the README says is what there is."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from workflow_world import Settings
from workflow_world.cli.app import app
from workflow_world.factory import DEFAULT_URL, URL_VARIABLES
from workflow_world.sql.libsql.opening import TOKEN_VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEST_COMMAND = (
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def table_rows() -> list[list[str]]:
    """The rows of the table of options: option, environment, default, meaning."""
    section = README.partition("\n## Configuration\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert f"{TEST_COMMAND}\n" in blocks("sh")
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text().splitlines()


def test_code_in_the_readme_is_the_example() -> None:
    example = (ROOT / "examples" / "greetings.py").read_text(encoding="utf-8")
    assert example.partition('"""\n\n')[2] in blocks("python")


def test_code_in_the_readme_runs(tmp_path: Path) -> None:
    greetings, script, *_ = blocks("python")
    (tmp_path / "greetings.py").write_text(greetings)
    (tmp_path / "script.py").write_text(script)
    env = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['Hello, Ada!', 'Guten Tag, Ada!', 'Bonjour, Ada!']\n"


@pytest.mark.parametrize("spec", dataclasses.fields(Settings), ids=lambda spec: spec.name)
def test_every_option_is_in_the_table(spec: dataclasses.Field[object]) -> None:
    row = next((row for row in table_rows() if f"`{spec.name}`" in row[0]), None)
    assert row is not None
    _, environment, default, _ = row
    variables = spec.metadata.get("env") or ()
    for name in (variables,) if isinstance(variables, str) else variables:
        assert f"`{name}`" in environment
    if isinstance(spec.default, bool):
        assert default == str(spec.default).lower()
    elif isinstance(spec.default, int | float):
        assert f"{spec.default:g}" in default or str(spec.default) in default


def test_the_table_names_no_variable_that_is_not_read() -> None:
    known = {
        "PORT",
        "WORKFLOW_SERVICE_URL",
        "WORKFLOW_AUTO_MIGRATE",
        *URL_VARIABLES,
        *TOKEN_VARIABLES,
    }
    for spec in dataclasses.fields(Settings):
        variables = spec.metadata.get("env") or ()
        known.update((variables,) if isinstance(variables, str) else variables)
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", README))
    assert named - {"SIGKILL", "SIGTERM"} <= known
    assert f"`{DEFAULT_URL}`" in README


def test_every_command_is_mentioned() -> None:
    for name, command in app.commands.items():
        assert f"`workflow-world {name}" in README
        for part in command.commands if isinstance(command, click.Group) else ():
            assert re.search(rf"`(?:workflow-world )?{name} {part}`", README), part


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("https://"):
            file, _, place = target.partition("#")
            assert (ROOT / file).exists(), target
            if place:
                titles = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
                assert place in {title.lower().replace(" ", "-") for title in titles}, target
