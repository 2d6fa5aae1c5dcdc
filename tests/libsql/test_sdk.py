"""Real SDK workflows on a server that wants a token, one process per scenario."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers.sqld import Signer, Sqld, empty_tables

PLAY = Path(__file__).parents[1] / "e2e" / "play.py"
FLOWS = ("steps", "hooks", "retries", "streaming")


@pytest.mark.parametrize("flow", FLOWS)
def test_the_flow_plays_to_its_end(
    flow: str, guarded: Sqld, signer: Signer, tmp_path: Path
) -> None:
    token = signer.token()
    empty_tables(guarded.url, token)
    played = subprocess.run(
        [sys.executable, PLAY, flow, guarded.url],
        cwd=tmp_path,
        env={**os.environ, "WORKFLOW_TURSO_AUTH_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert played.returncode == 0, played.stderr[-6000:]
    assert token not in played.stderr
