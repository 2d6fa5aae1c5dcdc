"""``python -m benchmarks``: measure, and write results.json, results.md and results.svg."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from . import machine, plot, report
from .contenders import CONTENDERS, CONTENDERS_BY_NAME
from .measure import ROOT, measure
from .plan import BY_NAME, TINY, WORKLOADS, Sizes

T = TypeVar("T")
DOCS = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    workloads = _chosen(options.workloads, BY_NAME, WORKLOADS)
    contenders = _chosen(options.contenders, CONTENDERS_BY_NAME, CONTENDERS)
    for contender in contenders:
        if contender.missing:
            _tell(f"Left out: {contender.name}, because {contender.needs} is not installed")
    contenders = tuple(one for one in contenders if not one.missing)
    sizes = _sized(TINY if options.tiny else Sizes(), options.size)
    values, failures = measure(workloads, contenders, sizes, options.rounds, _tell)
    command = " ".join(
        ["python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
    )
    found = report.results(values, machine.describe(), command, options.rounds, failures)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(out / "results.json", found)
    text = report.markdown(found)
    (out / "results.md").write_text(text + "\n")
    drawn = plot.draw(out / "results.svg", found)
    if not drawn:
        _tell("No plot: matplotlib is not installed, or there is nothing to compare")
    if options.update_docs:
        image = os.path.relpath(out / "results.svg", DOCS.parent)
        shown = f"![{plot.TITLE}]({image})\n\n" if drawn else ""
        report.insert(DOCS, shown + text, options.section)
    sys.stdout.write(text + "\n")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=5, help="default 5")
    parser.add_argument("--workloads", help=f"some of {','.join(BY_NAME)}")
    parser.add_argument("--contenders", help=f"some of {','.join(CONTENDERS_BY_NAME)}")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: shows only that it runs")
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="how much a workload does, as in memory_runs=50000; can be given several times",
    )
    parser.add_argument(
        "--update-docs", action="store_true", help="put the table into docs/benchmarks.md"
    )
    parser.add_argument(
        "--section",
        default="",
        help="of docs/benchmarks.md: shared, stores, postgres or libsql; default the first",
    )
    return parser


def _chosen(names: str | None, known: dict[str, T], everything: tuple[T, ...]) -> tuple[T, ...]:
    if names is None:
        return everything
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"Unknown: {', '.join(unknown)}. Known: {', '.join(known)}")
    return tuple(known[name] for name in wanted)


def _sized(sizes: Sizes, given: Sequence[str]) -> Sizes:
    known = {one.name: type(getattr(sizes, one.name)) for one in fields(sizes)}
    for text in given:
        name, _, number = text.partition("=")
        if name not in known:
            raise SystemExit(f"Unknown size: {name}. Known: {', '.join(known)}")
        try:
            value = known[name](number)
        except ValueError:
            raise SystemExit(f"{name} must be a number, not {number!r}") from None
        if value <= 0 and name != "warm_up_steps":
            raise SystemExit(f"{name} must be more than 0")
        sizes = replace(sizes, **{name: value})
    return sizes


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
