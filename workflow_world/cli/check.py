"""``workflow-world check`` and ``repair``: prove what is stored, and mend what can be mended."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..check import KINDS, Finding, Outcome, Plan, Progress, Report, apply, plan_repairs
from ..check import check as check_world
from ..check.checker import MAX_FINDINGS
from ..errors import WorldError
from ..world import World
from .common import Failure, Target, is_verbose, target_options, verbose_option, with_world

F = TypeVar("F", bound=Callable[..., None])
logger = logging.getLogger("workflow_world.cli")


class CannotLook(Failure):
    """The database could not be opened or read: nothing is known of it."""

    exit_code = 2


def _options(command: F) -> F:
    for option in (
        click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=MAX_FINDINGS,
            show_default=True,
            metavar="N",
            help="Findings to list; all are counted.",
        ),
        click.option(
            "--streams/--no-streams", default=True, help="Read the chunks of streams. Default: yes."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON for programs."),
    ):
        command = option(command)
    return command


@click.command()
@target_options
@verbose_option
@click.argument("database", required=False, metavar="[URL]")
@_options
@click.pass_context
def check(
    ctx: click.Context,
    target: Target,
    database: str | None,
    limit: int,
    streams: bool,
    as_json: bool,
) -> None:
    """Prove what must always hold of a database, and say where it does not.

    Reads only, also beside live workers. Exits with 0 when nothing is wrong, with 1 when
    something is, and with 2 when the database could not be looked at.
    """
    target = _at(target, database)

    async def look(world: World) -> Report:
        return await _look(world, streams, limit)

    with _looking(ctx):
        report = with_world(target, look)
    if as_json:
        click.echo(json.dumps({"url": str(target)} | _report_json(report), indent=2))
    else:
        console = _console(target)
        _print_findings(console, report.findings, "finding")
        _print_summary(console, report)
    sys.exit(not report.clean)


@click.command()
@target_options
@verbose_option
@click.argument("database", required=False, metavar="[URL]")
@_options
@click.option("--apply", "really", is_flag=True, help="Do it. Without, only show what it would do.")
@click.pass_context
def repair(
    ctx: click.Context,
    target: Target,
    database: str | None,
    limit: int,
    streams: bool,
    as_json: bool,
    really: bool,
) -> None:
    """Show how what "check" finds can be mended; with --apply, mend it.

    Safe beside live workers, and safe to repeat. Exits with 0 when nothing is left to mend, with
    1 when something is, and with 2 when the database could not be looked at.
    """
    target = _at(target, database)

    async def mend(world: World) -> tuple[Report, Plan, tuple[Outcome, ...]]:
        report = await _look(world, streams, limit)
        plan = plan_repairs(report)
        return report, plan, tuple(await apply(world, plan)) if really else ()

    with _looking(ctx):
        report, plan, outcomes = with_world(target, mend)
    if as_json:
        content = {"url": str(target)} | _plan_json(report, plan, outcomes, applied=really)
        click.echo(json.dumps(content, indent=2))
    else:
        console = _console(target)
        _print_plan(console, plan, outcomes, applied=really)
        _print_findings(console, plan.left, "not repaired", advice=True)
        _print_summary(console, report)
    done = all(one.done for one in outcomes)
    unlisted = report.total > len(report.findings)
    clean = report.clean or (really and done and not plan.left and not unlisted)
    sys.exit(not clean)


def _at(target: Target, database: str | None) -> Target:
    if database is None:
        return target
    if target.url is not None:
        raise click.UsageError("the URL is given twice, as an argument and by --url")
    return replace(target, url=database)


@contextlib.contextmanager
def _looking(ctx: click.Context) -> Generator[None]:
    try:
        yield
    except WorldError as error:
        if is_verbose(ctx):
            logger.exception("The database could not be looked at")
        raise CannotLook(str(error)) from error


async def _look(world: World, streams: bool, limit: int) -> Report:
    with _progress() as progress:
        return await check_world(world, streams=streams, limit=limit, progress=progress)


@contextlib.contextmanager
def _progress() -> Generator[Progress | None]:
    """A line that counts, on a terminal; nothing anywhere else."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("opening") as status:
        yield lambda what, count: status.update(f"checking: {count:,} {what}")


# --- for people ------------------------------------------------------------------------------


def _console(target: Target) -> Console:
    console = Console(highlight=False)
    console.print(str(target), markup=False, soft_wrap=True)
    return console


def _table(*names: str) -> Table:
    """Long ids go on in the next line: they are there to be copied."""
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _print_findings(
    console: Console, findings: Sequence[Finding], title: str, *, advice: bool = False
) -> None:
    if not findings:
        return
    table = _table(title, "run", "what", "detail")
    for one in findings:
        subject = "" if one.subject == one.run_id else one.subject or ""
        table.add_row(*map(Text, (one.kind, one.run_id or "", subject, one.detail)))
    console.print(table)
    if advice:
        for kind in dict.fromkeys(one.kind for one in findings):
            console.print(f"{kind}: {KINDS[kind].advice}.", markup=False)


def _print_plan(
    console: Console, plan: Plan, outcomes: tuple[Outcome, ...], *, applied: bool
) -> None:
    if not plan.repairs:
        return
    table = _table("repair", *(("done", "result") if applied else ("would be done",)))
    results = {id(one.repair): one for one in outcomes}
    for repair in plan.repairs:
        outcome = results.get(id(repair))
        state = "" if outcome is None else ("done" if outcome.done else "NOT DONE")
        text = "" if outcome is None else outcome.text
        cells = (repair.action, repair.text, f"{state} {text}".strip())
        table.add_row(*map(Text, cells if applied else cells[:2]))
    console.print(table)
    if not applied:
        console.print("Nothing was changed. Add --apply to do it.")


def _print_summary(console: Console, report: Report) -> None:
    seen = ", ".join(f"{count:,} {what}" for what, count in report.seen.items())
    console.print(f"Looked at {seen or 'nothing: the store is empty'}.", markup=False)
    if report.clean:
        console.print("Nothing is wrong.")
    else:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.kinds.items()))
        console.print(f"Found {report.total:,}: {kinds}.", markup=False)
    if report.total > len(report.findings):
        console.print(f"Only the first {len(report.findings):,} are listed.")
    if report.busy:
        console.print(f"{len(report.busy):,} runs changed all the while and were not judged.")
    if report.newer:
        console.print(f"{report.newer:,} runs of a newer SDK were not judged.")


# --- for programs ----------------------------------------------------------------------------


def _report_json(report: Report) -> dict[str, object]:
    return {
        "clean": report.clean,
        "total": report.total,
        "kinds": dict(sorted(report.kinds.items())),
        "seen": dict(report.seen),
        "busy": list(report.busy),
        "newer": report.newer,
        "findings": [_finding_json(one) for one in report.findings],
    }


def _plan_json(
    report: Report, plan: Plan, outcomes: tuple[Outcome, ...], *, applied: bool
) -> dict[str, object]:
    results = {id(one.repair): one for one in outcomes}
    repairs: list[dict[str, object]] = []
    for repair in plan.repairs:
        outcome = results.get(id(repair))
        repairs.append(
            {
                "action": repair.action,
                "text": repair.text,
                "done": outcome is not None and outcome.done,
                "result": "" if outcome is None else outcome.text,
                "findings": [_finding_json(one) for one in repair.findings],
            }
        )
    return {
        "applied": applied,
        "total": report.total,
        "kinds": dict(sorted(report.kinds.items())),
        "repairs": repairs,
        "left": [_finding_json(one) | {"advice": KINDS[one.kind].advice} for one in plan.left],
    }


def _finding_json(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "run_id": finding.run_id,
        "subject": finding.subject,
        "fields": list(finding.fields),
        "detail": finding.detail,
    }
