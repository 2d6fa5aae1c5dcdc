"""B192, B193: real SDK workflows, one process per scenario."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from servers.engines import Running

HERE = Path(__file__).parent
FLOWS = (
    "steps",
    "sleeping",
    "hooks",
    "retries",
    "streaming",
    "cancelling",
    "namespaces",
    "attributes",
    "nested",
    "sharing",
    "own_awaiting",
    "own_costs",
    "own_install",
    "own_lost_lease",
)
ON_SQLITE_ALONE = ("own_costs", "own_lost_lease")  # which look into the file, or count what it does


PLAYS = [
    *(("sqlite", flow) for flow in FLOWS),
    *(
        (engine, flow)
        for engine in ("postgres", "mongodb")
        for flow in FLOWS
        if flow not in ON_SQLITE_ALONE
    ),
]


@pytest.mark.parametrize(("engine", "flow"), PLAYS)
def test_the_flow_plays_to_its_end(
    engine: str, flow: str, engines: Running, tmp_path: Path
) -> None:
    with engines(engine).database() as url:
        played = subprocess.run(  # our own script
            [sys.executable, HERE / "play.py", flow, url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert played.returncode == 0, played.stderr[-6000:]


def test_every_flow_is_played() -> None:
    written = {path.stem for path in (HERE / "flows").glob("*.py")}
    assert written - {"__init__", "common", "durable"} == {*FLOWS}
