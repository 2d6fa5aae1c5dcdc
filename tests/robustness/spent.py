"""What a database did for somebody, in its own counts: never times.

On SQLite the instructions that its machine ran, on Postgres the rows and index entries that it
read of one table. The first counts connections that are made within; the second is complete when
every connection is closed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any

from servers import postgres
from sqlalchemy import event
from sqlalchemy.pool import Pool


class Spent:
    """``count`` is known after the block."""

    count = 0


@contextlib.contextmanager
def spent(url: str, server: postgres.Server | None, table: str) -> Generator[Spent]:
    """What is opened, done and closed within the block; ``server`` for a Postgres URL."""
    found = Spent()
    if server is None:
        with _instructions(found):
            yield found
        return
    database = url.rpartition("/")[2]
    deserted(server, url)  # so that nothing from before is still to be reported
    before = _rows_read(server, database, table)
    yield found
    deserted(server, url)  # they report when they end
    found.count = _rows_read(server, database, table) - before


def deserted(server: postgres.Server, url: str) -> None:
    """Returns when nobody is connected to the database: what killed processes began is over."""
    database = url.rpartition("/")[2]
    others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608
    while server.execute(others) != [(0,)]:
        time.sleep(0.005)


@contextlib.contextmanager
def _instructions(found: Spent) -> Generator[None]:
    def count() -> int:
        found.count += 1
        return 0

    def connected(connection: Any, _record: object) -> None:
        connection.set_progress_handler(count, 1)

    event.listen(Pool, "connect", connected)
    try:
        yield
    finally:
        event.remove(Pool, "connect", connected)


def _rows_read(server: postgres.Server, database: str, table: str) -> int:
    sql = f"""
        SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '{table}')
             + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = '{table}')
    """  # noqa: S608  # our own names
    ((rows,),) = server.execute(sql, database)
    return int(rows)
