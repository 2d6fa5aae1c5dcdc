"""Linux's inotify by ctypes: wait until a file is written to, without looking at it meanwhile."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from typing import Final

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)
_MODIFY: Final = 0x002
_ATTRIB: Final = 0x004
_MOVE_SELF: Final = 0x800
_EVENT: Final = struct.Struct("iIII")


class WatchedFile:
    """One file by its name: when another takes its place, that one is watched.

    ``add`` and ``wait`` are for one thread, ``interrupt`` is for any.

    Attributes:
        added: the file is watched.
    """

    def __init__(self, path: str) -> None:
        """Raises: OSError where there is no inotify, or no more of it."""
        self._path = os.fsencode(path)
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._inotify: int = self._libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        except (AttributeError, TypeError) as error:
            raise OSError("This system has no inotify") from error
        if self._inotify < 0:
            raise _last_error()
        self._woken, self._wake = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._inotify, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self.added = False

    def add(self) -> bool:
        """Watch the file from now on. Returns: whether it exists. Raises: OSError."""
        mask = _MODIFY | _ATTRIB | _MOVE_SELF
        if self._libc.inotify_add_watch(self._inotify, self._path, mask) < 0:
            error = _last_error()
            if isinstance(error, FileNotFoundError):
                return False
            raise error
        self.added = True
        return True

    def wait(self, seconds: float) -> bool:
        """Until the file is written to, ``interrupt`` is called, or that time has gone by.

        Returns: whether it was written to, or is not the file any more.
        """
        ready = [descriptor for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000)]
        if self._inotify not in ready:
            return False
        try:
            events = os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return False
        place = 0
        while place < len(events):
            _, mask, _, length = _EVENT.unpack_from(events, place)
            place += _EVENT.size + length
            if mask != _MODIFY:  # deleted, moved or forgotten by the system: look it up again
                self.added = False
        return True

    def interrupt(self) -> None:
        """This wait, and every later one."""
        os.write(self._wake, b"!")

    def close(self) -> None:
        for descriptor in (self._inotify, self._woken, self._wake):
            os.close(descriptor)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
