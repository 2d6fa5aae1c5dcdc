"""A process that dies at any statement, or a statement that fails: the next process ends what was
begun as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import crash
import pytest
from servers.engines import ENGINES, Running
from sqlalchemy.sql.dml import UpdateBase

from workflow_world.sql import migrate
from workflow_world.sql.compiled import Statement
from workflow_world.sql.queue.statements import QueueStatements
from workflow_world.sql.run_statements import RunStatements
from workflow_world.sql.streams import ChunkStatements
from workflow_world.sql.tables import tables

HERE = Path(__file__).parent
EVERY_POINT = os.environ.get("CHAOS_POINTS") == "all"
"""On servers, and of all stories and forms, and of all reads; else there points of each name, or of
half of them, and of some reads."""
ANY = {"before commit", "after commit"}
STORIES = {
    "tiny": {*ANY, "before end messages"},
    "operations": {
        *ANY,
        *(f"before {what} message" for what in ("insert", "settle", "retry", "delete")),
        *(f"before {what}" for what in ("extend lease", "free expired leases", "claim messages")),
        *("before keep last claim", "before delete hooks of run", "before insert chunk"),
    },
}
"""Names of points that a story must reach."""


ELSEWHERE = {
    "before claim message",  # of another strategy: tests/postgres/test_races.py
    "before unmark expired replay",  # where several claim at once: the same
}
"""Statements that write, and are in no story."""


def parts() -> Iterator[tuple[str, str, str, bool, int | None, int]]:
    """Story, form, engine, whether at each time of each point, and a shard of how many; None: one
    that the seed chooses, for what costs much."""
    for story in STORIES:
        for form in ("kills", "fails"):
            for name in ENGINES:
                first = (story, form) == ("tiny", "kills")
                every = EVERY_POINT or (first and name == "sqlite")
                if every or (first and name == "postgres"):
                    shards = 4 if every else 2
                    for shard in range(shards):
                        yield story, form, name, every, shard, shards
                elif first or name != "libsql":
                    yield story, form, name, every, None, 2


@pytest.mark.timeout(3600 if EVERY_POINT else 400)
@pytest.mark.parametrize(("story", "form", "name", "every", "shard", "shards"), [*parts()])
def test_a_fault_at_every_fault_point(
    tmp_path: Path,
    engines: Running,
    story: str,
    form: str,
    name: str,
    every: bool,
    shard: int | None,
    shards: int,
    seed: int,
) -> None:
    environ = {
        key: text
        for key, text in os.environ.items()
        if not key.startswith("WORKFLOW_") or key.startswith("WORKFLOW_TEST_")
    }
    if shard is None:
        shard = seed % shards
    place = engines(name).place
    choice = "all" if EVERY_POINT else "writes" if every else "names"
    command = [HERE / "crash.py", story, form, place, tmp_path, str(shard), str(shards)]
    command += [choice, str(seed)]
    played = subprocess.run(  # our own script
        [sys.executable, *command],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=3590 if EVERY_POINT else 390,
        check=False,
    )
    assert played.returncode == 0, played.stderr[-4000:]
    undisturbed, *attempts = map(json.loads, played.stdout.splitlines())
    if story == "tiny":
        assert undisturbed["state"]["run"] == ["completed", "b'out'"]
        assert undisturbed["state"]["messages"] == ["completed"]
    assert STORIES[story] <= {*undisturbed["points"]}
    wrong = [one for one in attempts if one["code"] != 0 or one["state"] != undisturbed["state"]]
    assert not wrong, f"{wrong}\n{played.stderr[-4000:]}"
    chosen = {(one["point"], one["chosen"]) for one in attempts}
    reached = {(one["point"], one["chosen"]) for one in attempts if one["met"]}
    # What only a lucky order of the same work reaches, an attempt may not reach at all.
    assert len(reached) >= 0.8 * len(chosen) > 0, chosen - reached
    reads = [name for name, _ in reached if crash.is_read(name)]
    print(f"{len(reached)} of {len(chosen)} points in {len(attempts)} attempts, at {reads}")  # noqa: T201


def test_every_statement_that_writes_is_in_a_story(tmp_path: Path) -> None:
    written, reached = set[str](), set[str]()
    for kind in (RunStatements, QueueStatements, ChunkStatements):
        made = kind(tables(""))
        for name in dir(kind):
            found = getattr(made, name)
            if isinstance(found, Statement) and isinstance(found.element, UpdateBase):
                written.add(found.before)
    for name, story in crash.STORIES.items():
        url, traces = f"file:{tmp_path / name}.db", tmp_path / name
        migrate.upgrade(url, environ={})
        traces.touch()
        reached.update(crash.counted(story, url, traces)["points"])
    assert len(written) > 20
    assert written - reached == ELSEWHERE
