"""After ``os.fork``: the child has our objects, but neither our threads nor a right to our sockets.

Everything that was open is left alone in the child, and opened anew at the next use. It is not
even closed there: a driver would say goodbye to the parent's server, or clean up the lock files
that the parent uses (https://sqlite.org/howtocorrupt.html, "carrying an open database across a
fork").
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .database import Database

_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def watch(database: Database) -> None:
    """Have ``database.forked`` called in a child of this process."""
    _databases.add(database)


def leave_alone(inherited: object) -> None:
    """Keep it for ever, the end of the process included: nothing closes it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_child() -> None:
    for database in tuple(_databases):
        database.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
