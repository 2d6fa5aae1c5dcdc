"""Many writers on one server that is killed under them: nothing is lost, and nothing done twice."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest
from servers.sqld import Sqld

from workflow_world import hrana

WRITERS = 3
KEYS = 120
PATIENCE_S = 60.0


class Progress:
    """Counts commits; lets the test wait for more of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.commits = self.unknown = self.lost = 0

    def add(self, **counts: int) -> None:
        with self._changed:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
            self._changed.notify_all()

    def wait_for(self, commits: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.commits >= commits, timeout=PATIENCE_S)


def commit_once(db: hrana.Connection, key: str) -> None:
    """Count up, and write down the key: in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    (value,) = db.execute("SELECT value FROM counter").fetchone() or (0,)
    db.execute("UPDATE counter SET value = ?", (value + 1,))
    db.execute("INSERT INTO log (key) VALUES (?)", (key,))
    db.commit()


def is_there(db: hrana.Connection, key: str, deadline: float) -> bool:
    while True:
        try:
            return db.execute("SELECT 1 FROM log WHERE key = ?", (key,)).fetchone() is not None
        except hrana.OperationalError:
            if time.monotonic() > deadline:
                raise  # else it is not up again yet


def write(url: str, writer: int, keys: int, progress: Progress | None = None) -> None:
    progress = progress or Progress()
    db = hrana.connect(url, write_behind=True, timeout=20)
    for number in range(keys):
        key, deadline = f"{writer}/{number}", time.monotonic() + PATIENCE_S
        while True:
            try:
                commit_once(db, key)
                break
            except hrana.UnknownOutcomeError:
                progress.add(unknown=1)
                if is_there(db, key, deadline):
                    break
            except hrana.OperationalError:
                if time.monotonic() > deadline:
                    raise
                progress.add(lost=1)
                db.rollback()
        progress.add(commits=1)
    db.close()


@pytest.fixture
def server(own_sqld: Sqld) -> Sqld:
    with hrana.connect(own_sqld.url) as db:
        db.execute("CREATE TABLE counter (value INTEGER NOT NULL)")
        db.execute("INSERT INTO counter VALUES (0)")
        db.execute("CREATE TABLE log (key TEXT PRIMARY KEY)")
    db.close()
    return own_sqld


def check(server: Sqld, expected: int) -> None:
    db = hrana.connect(server.url)
    found = db.execute("SELECT value, (SELECT count(*) FROM log) FROM counter").fetchone()
    db.close()
    assert found == (expected, expected)


def test_threads_and_a_server_that_is_killed(server: Sqld) -> None:
    progress = Progress()
    threads = [
        threading.Thread(target=write, args=(server.url, number, KEYS, progress))
        for number in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    for kills in range(1, 5):
        progress.wait_for(kills * WRITERS * KEYS // 6)
        server.kill()
        server.start()
    for thread in threads:
        thread.join()
    assert progress.unknown + progress.lost > 0
    check(server, WRITERS * KEYS)


def test_processes(server: Sqld) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write, args=(server.url, number, KEYS)) for number in range(WRITERS)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(2 * PATIENCE_S)
    finally:
        for process in processes:
            process.kill()
    assert [process.exitcode for process in processes] == [0] * WRITERS
    check(server, WRITERS * KEYS)
