"""The system calls on a SQLite file, seen and made to fail by ``strace``."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from known import check

from workflow_world.sql import migrate

HERE: Final = Path(__file__).parent
LONG: Final = bool(os.environ.get("CHAOS_LONG"))
OPERATIONS: Final = 30
CALL: Final = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\((?:\d+<([^>]*)>)?)(.*)")
FAULTS: Final = ("pwrite64:error=EIO", "pwrite64:error=ENOSPC", "fdatasync:error=EIO")


def strace() -> str:
    """Where it is missing, or may not trace, the test is skipped, saying so; it fails when
    ``WORKFLOW_TEST_REQUIRE`` names ``strace``."""
    reason = "strace: apt install strace"
    if found := shutil.which("strace"):
        tried = subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            return found
        reason = f"strace: {tried.stderr.strip()[-300:]}"
    if "strace" in os.environ.get("WORKFLOW_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


class Traced:
    """``disk_writer.py`` on a new file, under strace with these options, to its end."""

    def __init__(self, folder: Path, seed: int, *options: str) -> None:
        self.path, self._trace = folder / "w.db", folder / "trace.txt"
        notes = folder / "notes.txt"
        program = strace()
        migrate.upgrade(f"file:{self.path}", environ={})
        command = [
            program,
            "-f",
            "-y",
            "--seccomp-bpf",
            "-o",
            self._trace,
            *options,
            sys.executable,
        ]
        command += [HERE / "disk_writer.py", f"file:{self.path}", seed, OPERATIONS, notes]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        self.notes = [json.loads(line) for line in notes.read_text().splitlines()]
        assert self.notes.pop() == ["closed"]

    @property
    def known(self) -> dict[str, Any]:
        """See ``known.check``."""
        found: dict[str, Any] = {"events": [], "messages": [], "chunks": {}}
        for kind, about in self.notes:
            if kind == "chunks":
                found[kind] |= dict([about])
            elif kind in found:
                found[kind].append(about)
        return found

    def said(self, kind: str) -> list[str]:
        return [about for one, about in self.notes if one == kind]

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Name and file of each call, as they ended."""
        found = list[tuple[str, str]]()
        begun: dict[tuple[str, str], str] = {}
        for line in self._trace.read_text(errors="replace").splitlines():
            if (call := CALL.match(line)) is None:
                continue
            thread, name, file, rest = call.groups()
            if rest.endswith("<unfinished ...>"):
                begun[thread, name] = file or ""
            else:
                found.append((name, file or begun.pop((thread, name), "")))
        return found


def test_nothing_is_acknowledged_before_it_is_flushed(tmp_path: Path, seed: int) -> None:
    traced = Traced(tmp_path, seed, "-e", "trace=pwrite64,fdatasync,fsync,write")
    assert not traced.said("refused")
    dirty, flushes, acknowledged = False, 0, 0
    for name, file in traced.calls:
        if file.endswith("w.db-wal"):
            dirty = name == "pwrite64"
            flushes += not dirty
        elif file.endswith("notes.txt") and acknowledged < len(traced.notes):
            assert not dirty
            assert flushes > 0
            flushes, acknowledged = 0, acknowledged + 1
    assert acknowledged == len(traced.notes) >= OPERATIONS


@pytest.mark.anyio
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 40])
async def test_a_call_that_fails_takes_nothing_with_it(
    tmp_path: Path, seed: int, fault: str, times: int
) -> None:
    """What was acknowledged is there, what was refused is not, and the same World goes on. Only
    the last whose flush failed may be there when the file is opened anew, and is said to be."""
    chance = random.Random(seed)  # noqa: S311
    for number in range(50 if LONG else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        first = chance.randint(1, 20)  # each thread's calls are counted apart
        traced = Traced(folder, seed + number, *_injecting(fault, first, first + times - 1))
        refused, unknown = traced.said("refused"), traced.said("UNKNOWN_OUTCOME")
        assert all(error.startswith("SQLite: ") for error in (*refused, *unknown))
        if times > 1:
            assert refused or unknown
        await check(traced.path, traced.known, unknown=bool(unknown))


def _injecting(fault: str, first: int, last: int) -> Sequence[str]:
    name = fault.partition(":")[0]
    return "-e", f"trace={name}", "-e", f"inject={fault}:when={first}..{last}"
