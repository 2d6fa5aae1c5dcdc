"""Power loss: what a flush had put on disk is there, whatever became of the writes behind it.

A process writes and pauses. Copies of its database and WAL are taken in which the end of the WAL,
from the last flush on, is cut off, torn or overwritten, as a disk may leave it. Each copy must
open, be sound, and hold everything that was acknowledged before that flush.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from known import check, check_runs, sound

HERE = Path(__file__).parent
COPIES = int(os.environ.get("CHAOS_COPIES", "120"))
PER_PAUSE = 12
_WAL_HEADER, _FRAME_HEADER = 32, 24


class Writing:
    """The process that writes; it is paused whenever a method has returned."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._popen = subprocess.Popen(  # our own script
            [sys.executable, HERE / "writer.py", f"file:{path}", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(self, durable: int, unflushed: int) -> tuple[int, int, dict[str, Any]]:
        """Returns: the WAL's length at the last flush and now, and what was acknowledged."""
        assert self._ask(f"{durable} {unflushed}") == "flushed"
        flushed = self._length()
        known = json.loads(self._ask("go on"))
        return flushed, self._length(), known

    def _ask(self, line: str) -> str:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()
        return self._popen.stdout.readline().strip()

    def _length(self) -> int:
        """Bytes of the WAL in use, from its index: the file itself keeps its longest length."""
        index = Path(f"{self._path}-shm").read_bytes()
        (frames,) = struct.unpack_from("=I", index, 16)
        (page,) = struct.unpack_from("=H", index, 14)
        size = 65_536 if page == 1 else page
        return int(_WAL_HEADER + frames * (_FRAME_HEADER + size)) if frames else 0

    def kill(self) -> None:
        self._popen.kill()
        self._popen.communicate()


@contextmanager
def writing(path: Path, seed: int) -> Iterator[Writing]:
    process = Writing(path, seed)
    try:
        yield process
    finally:
        process.kill()


def cut(wal: bytearray, keep: int, used: int, chance: random.Random) -> None:
    """Nothing of the file behind a place is there."""
    del wal[chance.randint(keep, max(keep, used)) :]


def torn(wal: bytearray, keep: int, used: int, chance: random.Random) -> None:
    """Sectors of the end are missing: they read as zeros, in any order."""
    for start in range(keep, used, 512):
        if chance.random() < 0.5:
            wal[start : min(start + 512, used)] = bytes(min(start + 512, used) - start)


def overwritten(wal: bytearray, keep: int, used: int, chance: random.Random) -> None:
    """What was written last is garbage."""
    start = chance.randint(keep, max(keep, used))
    wal[start:used] = chance.randbytes(max(0, used - start))


DAMAGES: tuple[Callable[..., None], ...] = (
    cut,
    torn,
    overwritten,
)


def damaged(source: Path, to: Path, damage: Callable[[bytearray], None]) -> Path:
    """A copy of a database with a WAL that the damage was done to."""
    to.mkdir()
    copy = to / "w.db"
    shutil.copyfile(source, copy)
    wal = bytearray(Path(f"{source}-wal").read_bytes())
    damage(wal)
    Path(f"{copy}-wal").write_bytes(wal)
    return copy


@pytest.mark.anyio
async def test_power_loss_loses_nothing_that_was_flushed(tmp_path: Path, seed: int) -> None:
    chance, path = random.Random(seed), tmp_path / "w.db"  # noqa: S311
    with writing(path, seed) as process:
        for pause in range(-(-COPIES // PER_PAUSE)):
            keep, used, known = process.write(chance.randint(3, 12), chance.randint(0, 6))
            for number in range(PER_PAUSE):
                do = chance.choice(DAMAGES)
                to = tmp_path / f"copy-{pause}-{number}"
                copy = damaged(path, to, partial(do, keep=keep, used=used, chance=chance))
                await check(copy, known)
                shutil.rmtree(to)


@pytest.mark.anyio
async def test_a_disk_that_lied_leaves_a_sound_beginning(tmp_path: Path, seed: int) -> None:
    """Even what was flushed is lost: what is left is a whole, earlier state."""
    chance, path = random.Random(seed), tmp_path / "w.db"  # noqa: S311
    with writing(path, seed) as process:
        _, used, known = process.write(20, 4)
        for number in range(COPIES // 4):
            to = tmp_path / f"copy-{number}"
            copy = damaged(path, to, partial(cut, keep=0, used=used, chance=chance))
            if sound(copy):
                await check_runs(copy, known, whole=False)
            shutil.rmtree(to)
