"""A process that dies at any statement of a run: the next one ends the run as if nothing was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARDS = 4


@pytest.mark.timeout(400)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_at_every_fault_point(tmp_path: Path, shard: int) -> None:
    played = subprocess.run(  # our own script
        [sys.executable, HERE / "crash.py", tmp_path, str(shard), str(SHARDS)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")},
        capture_output=True,
        text=True,
        timeout=390,
        check=False,
    )
    assert played.returncode == 0, played.stderr[-4000:]
    undisturbed, *attempts = map(json.loads, played.stdout.splitlines())
    assert undisturbed["state"]["run"] == ["completed", "b'out'"]
    assert undisturbed["state"]["messages"] == ["completed"]
    points = undisturbed["points"]
    names = {*points}
    assert {"before commit", "after commit", "before settle message"} <= names
    wrong = {
        points[one["number"]]: one
        for one in attempts
        if one["code"] != 0 or one["state"] != undisturbed["state"]
    }
    assert not wrong, f"{wrong}\n{played.stderr[-4000:]}"
    killed = sum(one["killed"] for one in attempts)
    assert killed >= 0.8 * len(attempts) > 0
    print(f"{killed} of {len(attempts)} attempts were killed, {len(points)} points")  # noqa: T201
