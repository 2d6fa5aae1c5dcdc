"""The helper itself: a port that one process is given, no other one takes."""

from __future__ import annotations

import socket

import pytest

from . import processes


def ports_of(worker: str, patch: pytest.MonkeyPatch) -> set[int]:
    patch.setenv("PYTEST_XDIST_WORKER", worker)
    patch.setattr(processes, "_next_port", processes._ports())
    return {processes.free_port() for _ in range(50)}


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        found = [ports_of(f"gw{number}", patch) for number in range(4)]
    assert len(set.union(*found)) == 4 * 50
    # Where the kernel takes those of outgoing connections from.
    assert max(set.union(*found)) < 32_768


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        monkeypatch.setattr(processes, "_next_port", iter(range(used, 65_536)))
        assert processes.free_port() > used
