"""Postgres through psycopg 3: what differs from other SQL engines."""

from __future__ import annotations
