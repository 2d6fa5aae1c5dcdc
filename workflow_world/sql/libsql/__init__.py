"""Remote libSQL databases, which are SQLite behind HTTP: what differs from a file."""

from __future__ import annotations
