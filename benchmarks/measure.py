"""Rounds of measurements: each in a fresh process and directory, the contenders taking turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from .contenders import Contender
from .filled import Filled
from .plan import Sizes, Workload
from .servers import NoServerError, Servers

ROOT = Path(__file__).resolve().parent.parent
Values = dict[str, dict[str, list[float]]]
"""Measure, contender, one value per round."""
_TIMEOUT_S = 1_800


class MeasurementError(Exception):
    """A measuring process failed; the message ends with what it wrote to stderr."""


def in_child(
    contender: str,
    workloads: Sequence[str],
    sizes: Sizes,
    directory: Path,
    prepared: Path | None = None,
    server: str | None = None,
) -> dict[str, dict[str, float]]:
    """Run workloads in one fresh process, on copies of a prepared database if there is one, or on
    new databases of a server.

    Raises: MeasurementError.
    """
    job = {
        "contender": contender,
        "workloads": list(workloads),
        "sizes": asdict(sizes),
        "directory": str(directory),
        "prepared": None if prepared is None else str(prepared),
        "server": server,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"{contender}, {workloads}: no result in {_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise MeasurementError(f"{contender}, {workloads}:\n{done.stderr[-2000:]}")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    workloads: Sequence[Workload],
    contenders: Sequence[Contender],
    sizes: Sizes,
    rounds: int,
    tell: Callable[[str], None],
) -> tuple[Values, list[str]]:
    """All rounds, or those before Ctrl+C.

    Returns: the values, and one line for each measurement that failed.
    """
    values: Values = {}
    failures = list[str]()
    number = 0
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as kept,
        Servers(Path(kept)) as servers,
    ):
        contenders = _with_their_servers(contenders, servers, tell)
        filled = Filled(Path(kept), sizes)
        try:
            for number in range(rounds):
                _round(
                    number,
                    rounds,
                    workloads,
                    contenders,
                    sizes,
                    filled,
                    servers,
                    values,
                    failures,
                    tell,
                )
        except KeyboardInterrupt:
            failures.append(f"interrupted in round {number + 1}")
    return values, failures


def _with_their_servers(
    contenders: Sequence[Contender], servers: Servers, tell: Callable[[str], None]
) -> list[Contender]:
    able = list[Contender]()
    for contender in contenders:
        try:
            servers.url(contender.name)
        except NoServerError as error:
            tell(f"Left out: {contender.name}, for there is no server: {error}")
        else:
            able.append(contender)
    return able


def _round(
    number: int,
    rounds: int,
    workloads: Sequence[Workload],
    contenders: Sequence[Contender],
    sizes: Sizes,
    filled: Filled,
    servers: Servers,
    values: Values,
    failures: list[str],
    tell: Callable[[str], None],
) -> None:
    for workload in workloads:
        able = [one for one in contenders if workload.name in one.workloads]
        # Whoever comes first in one round comes later in the next.
        turn = number % len(able) if able else 0
        for contender in able[turn:] + able[:turn]:
            prepared = filled.path(contender.name)
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                try:
                    found = in_child(
                        contender.name,
                        [workload.name],
                        sizes,
                        Path(directory),
                        prepared,
                        servers.url(contender.name),
                    )
                except MeasurementError as error:
                    failures.append(f"round {number + 1}: {error}")
                    lines = failures[-1].splitlines()
                    tell(f"  FAILED {lines[0]} {lines[-1]}")
                    continue
            for name, value in found[workload.name].items():
                values.setdefault(name, {}).setdefault(contender.name, []).append(value)
                tell(f"  {number + 1}/{rounds} {name:26} {contender.name:16} {value:12.3f}")
