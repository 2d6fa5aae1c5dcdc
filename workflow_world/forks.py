"""Around ``os.fork``: a child has our objects, but neither our threads nor a right to our sockets.

Connections to servers are left alone in the child, and made anew at the next use. They are not even
closed there, for a driver would say goodbye to the parent's server. SQLite files are closed before
the fork: the library keeps per process what it has locked, so that a child would wait for ever for
a lock that was held at that instant, and would hold none of its own
(https://sqlite.org/howtocorrupt.html, "carrying an open database across a fork").
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Protocol


class Database(Protocol):
    """What has to know of a fork."""

    def before_fork(self) -> None:
        """Called in the process that is about to fork."""
        ...

    def after_fork(self) -> None:
        """Called in the same process afterwards."""
        ...

    def forked(self) -> None:
        """This is a child of the process that opened it: begin anew, leave what is open alone."""
        ...


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def watch(database: Database) -> None:
    """Have ``database.forked`` called in a child of this process."""
    _databases.add(database)


def leave_alone(inherited: object) -> None:
    """Keep it for ever, the end of the process included: nothing closes it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


class Gate:
    """Who passes it goes on until it leaves; who closes it waits until nobody is inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._closed = 0, False

    def __enter__(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._closed:
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            while self._inside:
                self._changed.wait()

    def open(self) -> None:
        with self._changed:
            self._closed = False
            self._changed.notify_all()


_forking: list[Database] = []


def _before() -> None:
    for database in tuple(_databases):
        database.before_fork()
        _forking.append(database)


def _in_parent() -> None:
    while _forking:
        _forking.pop().after_fork()


def _in_child() -> None:
    _forking.clear()
    for database in tuple(_databases):
        database.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
