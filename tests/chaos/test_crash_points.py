"""A process that dies at any statement of a run: the next one ends the run as if nothing was."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from servers.engines import ENGINES, Running

HERE = Path(__file__).parent
EVERY_POINT = os.environ.get("CHAOS_POINTS") == "all"
"""On servers, too; else there one point of each name."""
PARTS = [
    (name, shard, shards)
    for name in ENGINES
    for shards in (4 if name == "sqlite" or EVERY_POINT else 2,)
    for shard in range(shards if name != "libsql" or EVERY_POINT else 1)
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "shard", "shards"), PARTS)
def test_killed_at_every_fault_point(
    tmp_path: Path, engines: Running, name: str, shard: int, shards: int
) -> None:
    environ = {
        key: text
        for key, text in os.environ.items()
        if not key.startswith("WORKFLOW_") or key.startswith("WORKFLOW_TEST_")
    }
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    if name == "libsql" and not EVERY_POINT:
        shard = seed % shards  # one half, for there they cost most
    command = [HERE / "crash.py", engines(name).place, tmp_path, str(shard), str(shards)]
    if name != "sqlite" and not EVERY_POINT:
        command.append(str(seed))
    played = subprocess.run(  # our own script
        [sys.executable, *command],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert played.returncode == 0, played.stderr[-4000:]
    undisturbed, *attempts = map(json.loads, played.stdout.splitlines())
    assert undisturbed["state"]["run"] == ["completed", "b'out'"]
    assert undisturbed["state"]["messages"] == ["completed"]
    points = {*undisturbed["points"]}
    assert {"before commit", "after commit", "before end messages"} <= points
    wrong = [one for one in attempts if one["code"] != 0 or one["state"] != undisturbed["state"]]
    assert not wrong, f"{wrong}\n{played.stderr[-4000:]}"
    chosen = {(one["point"], one["chosen"]) for one in attempts}
    reached = {(one["point"], one["chosen"]) for one in attempts if one["killed"]}
    # What only a lucky order of the same work reaches, an attempt may not reach at all.
    assert len(reached) >= 0.8 * len(chosen) > 0, chosen - reached
    print(f"{len(reached)} of {len(chosen)} points in {len(attempts)} attempts")  # noqa: T201
