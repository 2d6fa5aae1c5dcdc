"""``python -m tests.simulation --seed 123 --store sqlite``: play one seed and print its trace."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .scene import make_template, simulate


def main(say: Callable[..., None]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from there on")
    parser.add_argument("--store", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--trace", action="store_true", help="print every step")
    wanted = parser.parse_args()
    failed = steps = 0
    with tempfile.TemporaryDirectory() as directory:
        template = make_template(Path(directory) / "template.db")
        for seed in range(wanted.seed, wanted.seed + wanted.seeds):
            kept = None if wanted.trace else 0
            outcome = simulate(seed, wanted.store, template=template, kept=kept)
            say(*outcome.lines, sep="\n", end="\n" if outcome.lines else "")
            if outcome.wrong or wanted.seeds == 1:
                say(f"seed {seed}: {outcome.steps} steps, trace {outcome.trace}")
                say(*outcome.wrong, sep="\n", end="\n" if outcome.wrong else "")
            failed += bool(outcome.wrong)
            steps += outcome.steps
    say(f"{wanted.seeds} seeds, {steps} steps, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(print))
