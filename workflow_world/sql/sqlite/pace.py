"""When the watcher looks: after the WAL was written to, or as often as nobody would notice.

A commit becomes visible when its last write is on disk: later than the writing that gives it away.
So a writing is followed by several looks.
"""

from __future__ import annotations

import os
import time
from typing import Final, Protocol

from .inotify import WatchedFile

INTERVAL_S: Final = 0.01
"""Between two looks while there is writing."""
QUIET_S: Final = 2.0
"""For so long a commit may be under way after its file was written to."""
QUIET_INTERVAL_S: Final = 0.025
"""Between two looks at the time stamp of a file that was not written to for a while."""
FIRST_S: Final = 0.001
"""From the first writing to the first look: few disks are faster."""
SLOWEST_S: Final = 0.1
REASSURE_S: Final = 1.0
"""Between two looks without a reason, which show whether the system tells of writings."""


class Pace(Protocol):
    """One thread waits; ``interrupt`` is for any."""

    def wait(self) -> bool:
        """Returns, after some time: whether a look is worth its while."""
        ...

    def was_ours(self) -> None:
        """The last look found this process's own commits: there is no hurry."""
        ...

    def missed(self) -> bool:
        """The last look found a commit. Returns: whether nothing had told of it."""
        ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def pace(path: str) -> Pace:
    """The best there is for a WAL file of that name, which need not exist yet."""
    try:
        return Told(path)
    except OSError:
        return Stamped(path)


class Stamped:
    """Looks at the file's time stamp, for that costs less than asking SQLite."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written: tuple[int, int] | None = None
        self._quiet_at = 0.0
        self._quiet = False

    def wait(self) -> bool:
        time.sleep(QUIET_INTERVAL_S if self._quiet else INTERVAL_S)
        self._quiet = self._is_quiet()
        return not self._quiet

    def _is_quiet(self) -> bool:
        """Whether no commit can be under way, nor have come since the last look."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        written = (found.st_mtime_ns, found.st_size)
        if written != self._written:
            self._written, self._quiet_at = written, time.monotonic() + QUIET_S
        return time.monotonic() > self._quiet_at

    def was_ours(self) -> None:
        """It is at its own pace anyway."""

    def missed(self) -> bool:
        return False

    def interrupt(self) -> None:
        """It never waits for long."""

    def close(self) -> None:
        """There is nothing to give back."""


class Told:
    """Is told of writings by the system, and sleeps until then."""

    def __init__(self, path: str) -> None:
        """Raises: OSError where nobody tells."""
        self._file = WatchedFile(path)
        self._pause, self._quiet_at = FIRST_S, 0.0
        self._writing = self._reassuring = False

    def wait(self) -> bool:
        self._reassuring = False
        if not self._file.added:  # it is new, or another than before
            time.sleep(FIRST_S if self._file.add() else QUIET_INTERVAL_S)
            self._begin()
            return True
        if self._writing:  # whoever writes on and on is looked at each interval, not each time
            time.sleep(self._pause)
            self._writing = self._file.wait(0)
            if self._writing:
                self._quiet_at = time.monotonic() + QUIET_S
            self._pause = min(2 * self._pause, INTERVAL_S if self._writing else SLOWEST_S)
            return True
        self._reassuring = time.monotonic() > self._quiet_at
        if self._file.wait(REASSURE_S if self._reassuring else self._pause):
            self._reassuring = False
            time.sleep(FIRST_S)
            self._begin()
        else:
            self._pause = min(2 * self._pause, SLOWEST_S)
        return True

    def _begin(self) -> None:
        self._writing, self._pause = True, 2 * FIRST_S
        self._quiet_at = time.monotonic() + QUIET_S

    def was_ours(self) -> None:
        self._pause = max(self._pause, INTERVAL_S)

    def missed(self) -> bool:
        if self._reassuring and self._file.wait(0):
            self._begin()
            return False
        return self._reassuring

    def interrupt(self) -> None:
        self._file.interrupt()

    def close(self) -> None:
        self._file.close()
