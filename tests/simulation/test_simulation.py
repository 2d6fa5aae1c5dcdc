"""Seeds: fresh ones each time, and those that once found a bug; each replays identically."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from .scene import Kind, Outcome, make_template, simulate

STEPS = int(os.environ.get("SIMULATION_STEPS", "20000"))
"""For both stores together."""
FIRST = int(os.environ.get("SIMULATION_SEED", "0")) or secrets.randbelow(1 << 40)
ROOT = Path(__file__).parents[2]
STORES: tuple[Kind, ...] = ("memory", "sqlite")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("simulation") / "template.db")


@pytest.mark.parametrize("store", STORES)
def test_fresh_seeds_hold_every_promise(template: Path, store: Kind) -> None:
    seed, steps, wrong = FIRST, 0, list[Outcome]()
    while steps < STEPS // len(STORES) and len(wrong) < 3:
        outcome = simulate(seed, store, template=template)
        steps += outcome.steps
        seed += 1
        if outcome.wrong:
            wrong.append(outcome)
    print(f"{store}: seeds {FIRST} to {seed - 1}, {steps} steps")  # noqa: T201
    assert not wrong, "\n".join(map(_report, wrong))


@pytest.mark.parametrize("store", STORES)
def test_a_seed_replays_identically(template: Path, store: Kind) -> None:
    """In this process, and in others whose sets of texts have another order."""
    ours = [simulate(FIRST, store, template=template, kept=None) for _ in range(2)]
    assert ours[0].lines == ours[1].lines
    assert ours[0].trace == ours[1].trace
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(FIRST), "--store", store]
    others = [
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        for hash_seed in ("1", "2")
    ]
    expected = f"seed {FIRST}: {ours[0].steps} steps, trace {ours[0].trace}"
    assert [one.stdout.splitlines()[0] for one in others] == [expected] * 2, others[0].stderr


def test_other_seeds_are_other_stories(template: Path) -> None:
    traces = {simulate(FIRST + one, "memory", template=template).trace for one in range(3)}
    assert len(traces) == 3


def _report(outcome: Outcome) -> str:
    return "\n".join(
        [
            f"seed {outcome.seed} on {outcome.kind}, step {outcome.steps}:",
            *outcome.wrong,
            "the last steps:",
            *outcome.lines[-60:],
            "the whole trace: python -m tests.simulation "
            f"--seed {outcome.seed} --store {outcome.kind} --trace",
        ]
    )
