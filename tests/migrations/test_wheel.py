"""The wheel carries the scripts, and migrates from where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .helpers import ROOT, TABLES, VERSION, table_names

needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None,
    reason="building a wheel offline needs pip and hatchling: pip install hatchling",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@needs_hatchling
def test_the_wheel_carries_the_scripts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "workflow_world/alembic/env.py" in names
    versions = {name for name in names if name.startswith("workflow_world/alembic/versions/")}
    here = {path.name for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert {Path(name).name for name in versions if name.endswith(".py")} == here
    assert "workflow_world/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    # A package of this name at the top would hide the library.
    assert not [name for name in names if name.startswith("alembic/")]


@needs_hatchling
def test_an_unpacked_wheel_migrates(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    program = (
        "import workflow_world; from workflow_world.sql import migrate;"
        "assert str(migrate.scripts()).startswith(workflow_world.__path__[0]);"
        "migrate.upgrade('file:w.db', environ={}); migrate.check('file:w.db', environ={});"
        "print(workflow_world.__path__[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(site / "workflow_world")
    assert table_names(tmp_path / "w.db") == {*TABLES, VERSION}
