"""The limit of a Postgres: psycopg alone, ten connections in autocommit, a row each."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg

from .plan import Sizes
from .raw import operations
from .stores import PAYLOAD, database_url

_CONNECTIONS = 10


def run(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    """Commits per second, as many as the workload has operations."""
    count = operations(workload, sizes)
    connections = 1 if workload == "step_events_1" else _CONNECTIONS
    url = database_url(directory)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE log (position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " payload BYTEA NOT NULL)"
        )
    opened = [psycopg.connect(url, autocommit=True) for _ in range(connections)]
    each = -(-count // connections)

    def insert(connection: psycopg.Connection) -> None:
        for _ in range(each):
            connection.execute("INSERT INTO log (payload) VALUES (%s)", (PAYLOAD,))

    threads = [threading.Thread(target=insert, args=(one,)) for one in opened]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for one in opened:
        one.close()
    return {workload: each * connections / seconds}
