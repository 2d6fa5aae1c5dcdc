"""The reference backend: everything in dicts of this process, nothing survives it.

This is the model to copy for a backend of your own, and the model that tests compare others with.
It has no rules; see ``workflow_world.backend`` for what each verb must do.

    database.py  the shared state, and the transaction: all changes or none
    rows.py      detached copies: nobody can change the store through a value
    apply.py     an intent: load its facts, let it decide, apply the decision
    listing.py   filters and order of lists
    runs.py  queue.py  streams.py    the three stores
    backend.py   one handle, and ``open_backend``
"""

from .backend import CAPABILITIES, MemoryBackend, open_backend
from .database import MemoryDatabase

__all__ = ["CAPABILITIES", "MemoryBackend", "MemoryDatabase", "open_backend"]
