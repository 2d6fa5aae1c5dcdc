"""The list of what is proved is complete and up to date, and so is the page about backends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_world.testing.conformance import checklist, table

ROOT = Path(__file__).resolve().parents[2]


def test_every_number_has_a_test_or_a_reason() -> None:
    assert table.problems(ROOT) == []


def test_the_page_is_up_to_date() -> None:
    committed = (ROOT / table.PAGE).read_text("utf-8")
    assert committed == table.page(ROOT), "run python -m workflow_world.testing.conformance.table"


def test_the_suite_runs_on_these_backends() -> None:
    assert table.backends_of(ROOT) == tuple(sorted(checklist.BACKENDS))


@pytest.mark.parametrize(
    ("node_id", "exists"),
    [
        ("tests/vercel/test_sdk_models.py::TestUnrepresentable", True),
        ("tests/conformance/test_table.py::test_the_page_is_up_to_date", True),
        ("tests/conformance/test_table.py::test_nobody_wrote", False),
        ("tests/conformance/test_nowhere.py::test_the_page_is_up_to_date", False),
    ],
)
def test_a_listed_test_must_exist(
    monkeypatch: pytest.MonkeyPatch, node_id: str, exists: bool
) -> None:
    monkeypatch.setattr(table, "ELSEWHERE", {"B112": (node_id,)})
    monkeypatch.setattr(table, "FOLDERS", {**checklist.FOLDERS, "conformance": "none"})
    assert any("does not exist" in problem for problem in table.problems(ROOT)) is not exists


def test_a_number_without_a_test_needs_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "UNPROVED", {"B015": "nobody had the time"})
    monkeypatch.setattr(table, "ELSEWHERE", {})
    found = table.problems(ROOT)
    assert "B015 has a test and a reason why it has none" in found
    assert "B184 has neither a test nor a reason why not" in found


def test_check_compares_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert table.main(["--check"]) == 0
    monkeypatch.setattr(table, "PAGE", tmp_path / "page.md")
    assert table.main(["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
    assert table.main([]) == 0
    assert table.main(["--check"]) == 0


def test_the_ten_lines_of_the_page_about_backends_work(tmp_path: Path) -> None:
    """As a third party has them: in a folder of their own, with nothing else there."""
    page = (ROOT / "docs/backends.md").read_text("utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(source.split("\n\n\n")) == 2
    assert sum(1 for line in source.splitlines() if line.strip()) <= 10
    (tmp_path / "test_mine.py").write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "b015"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_the_page_about_backends_names_every_capability() -> None:
    from workflow_world.backend import Capabilities

    page = (ROOT / "docs/backends.md").read_text("utf-8")
    assert [name for name in Capabilities.__slots__ if name != "name" and name not in page] == []
