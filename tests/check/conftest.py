"""A sound store for each test, the ledger of ``tests/core``, and a clean environment."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from .stores import Store, beginning, copied, make

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WORKFLOW_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sound store in a file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "w.db"
    return asyncio.run(make(f"file:{path}", path, beginning()))


@pytest.fixture
def store(template: Store, tmp_path: Path) -> Store:
    """A copy of its own."""
    return copied(template, tmp_path / "w.db")
