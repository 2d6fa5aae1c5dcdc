"""SQLite files and in-memory databases: what differs from other SQL engines."""

from __future__ import annotations
