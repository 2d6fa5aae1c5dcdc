"""``workflow-world inspect …``: looking at runs."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Final, get_args

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.entities import Run, RunStatus
from ..core.values import iso_ms
from ..explain import explain
from ..factory import install
from .common import Commands, Target, target_options, verbose_option, with_world

_STATUSES: Final[tuple[str, ...]] = get_args(RunStatus)


@click.group(cls=Commands)
def inspect() -> None:
    """Look at runs, and why they are where they are. No payload is shown unasked."""


@inspect.command()
@target_options
@verbose_option
@click.option(
    "--status", type=click.Choice(_STATUSES), multiple=True, help="Can be given several times."
)
@click.option("--name", metavar="NAME", help="Of the workflow.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, metavar="N")
@click.option("--cursor", metavar="TEXT", help="Go on where the last list ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def runs(
    target: Target,
    status: tuple[RunStatus, ...],
    name: str | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    page = with_world(
        target,
        lambda world: world.runs.list(
            status=status, workflow_name=name, limit=limit, cursor=cursor, resolve_data="none"
        ),
    )
    more = page.cursor if page.has_more else None
    if as_json:
        found = {"url": str(target), "runs": [_as_json(run) for run in page.data], "cursor": more}
        click.echo(json.dumps(found, indent=2))
        return
    table = Table()
    for column in ("run", "workflow", "status", "created (UTC)", "ended (UTC)"):
        table.add_column(column, overflow="fold")
    for run in page.data:
        times = (_short(run.created_at), _short(run.completed_at))
        table.add_row(*map(Text, (run.run_id, run.workflow_name, _state(run), *times)))
    console = Console(highlight=False)
    console.print(str(target), markup=False, soft_wrap=True)
    console.print(table if page.data else "No such run.")
    if more is not None:
        console.print(f"There are more: --cursor {more}", markup=False, soft_wrap=True)


@inspect.command()
@target_options
@verbose_option
@click.argument("run_id")
@click.option(
    "--error", "shows_error", is_flag=True, help="Show the text of a failed run's error, too."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def run(target: Target, run_id: str, shows_error: bool, as_json: bool) -> None:
    """Say what RUN_ID waits for, or how and why it ended."""
    found = with_world(target, lambda world: explain(world, run_id))
    about, lines = found.run, [*found.reasons]
    if shows_error and about.status == "failed":
        lines.append(_error_of(target, run_id) or "It has completed since")
    if as_json:
        click.echo(json.dumps(_as_json(about) | {"reasons": lines}, indent=2))
        return
    console = Console(highlight=False)
    head = f"{about.run_id} of {about.workflow_name}: {_state(about)}"
    for line in (
        f"{head}, created {_time(about.created_at)}",
        *(f"- {line}" for line in lines),
    ):
        console.print(line, markup=False, soft_wrap=True)


def _error_of(target: Target, run_id: str) -> str | None:
    world = install(target.url, auto_migrate=False, **target.options)
    from ..vercel.failures import failure_of

    async def read() -> str | None:
        try:
            return await failure_of(run_id)
        finally:
            await world.close()

    return asyncio.run(read())


def _state(run: Run) -> str:
    return f"{run.status} ({run.error_code})" if run.error_code else run.status


def _time(when: datetime | None) -> str | None:
    return None if when is None else iso_ms(when)


def _short(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def _as_json(run: Run) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "workflow_name": run.workflow_name,
        "status": run.status,
        "error_code": run.error_code,
        "attributes": dict(run.attributes),
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "completed_at": _time(run.completed_at),
    }
