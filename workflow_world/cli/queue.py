"""``workflow-world status`` and ``purge``: looking at the queue, and tidying it up."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

import click
from rich.console import Console
from rich.table import Table

from ..backend import Retention
from ..core.entities import MessageStatus, QueueStats
from ..world import World
from .common import Target, target_options, verbose_option, with_world

_STATUSES: Final[tuple[MessageStatus, ...]] = get_args(MessageStatus)
_BATCH: Final = 1_000
_LONGEST_S: Final = 1e10
_LONG_DUE_S: Final = 10
_NOBODY: Final = (
    "Nobody takes it: is a worker running, on this very database and with the module that has the "
    "workflows of its queue?"
)


def _a_number(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is no number of seconds")
    return value


@click.command()
@target_options
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def status(target: Target, as_json: bool) -> None:
    """Show how many messages wait, run, are done or have failed."""
    stats = with_world(target, lambda world: world.messages.stats())
    if as_json:
        click.echo(json.dumps(_as_json(stats, str(target)), indent=2))
    else:
        _print_table(stats, str(target))


@click.command()
@target_options
@verbose_option
@click.option(
    "--older-than",
    type=click.FloatRange(min=0, max=_LONGEST_S),
    callback=_a_number,
    default=0.0,
    metavar="SECONDS",
    help="Only messages that finished longer ago than this. Default: 0.",
)
@click.option(
    "--failed", is_flag=True, help="Failed messages too, whatever their retention time says."
)
def purge(target: Target, older_than: float, failed: bool) -> None:
    """Delete completed messages now.

    They would go by themselves when their retention time is over. Failed messages are kept for
    inspection unless --failed is given. Messages that are not finished, and the runs themselves,
    are never touched.
    """
    count = with_world(target, lambda world: _purge(world, older_than, failed=failed))
    click.echo(f"{target}: deleted {count} finished message{'' if count == 1 else 's'}")


async def _purge(world: World, older_than: float, *, failed: bool) -> int:
    await world.messages.stats()  # opens the database
    settings = world.settings
    # A completed message still answers for its idempotency key for this long (spec 4.4).
    keys = timedelta(milliseconds=settings.idempotency_ttl_ms)
    age = timedelta(seconds=older_than)
    retention = Retention(
        completed=max(age, keys),
        failed=age if failed else timedelta(seconds=settings.failed_retention_s),
    )
    total = 0
    while count := await world.backend.messages.prune(retention, limit=_BATCH):
        total += count
    return total


def _as_json(stats: QueueStats, url: str) -> dict[str, object]:
    return {
        "url": url,
        "queues": {
            queue: {name: counts.get(name, 0) for name in _STATUSES}
            for queue, counts in sorted(stats.counts.items())
        },
        "oldest_due_at": _iso(stats.oldest_due_at),
        "oldest_due_age_s": _age(stats.oldest_due_at),
        "oldest_claimed_at": _iso(stats.oldest_claimed_at),
        "oldest_claimed_age_s": _age(stats.oldest_claimed_at),
    }


def _print_table(stats: QueueStats, url: str) -> None:
    console = Console()
    console.print(url, highlight=False, markup=False, soft_wrap=True)
    if not stats.counts:
        console.print("The queue is empty.")
        return
    table = Table()
    table.add_column("queue", overflow="fold")
    for name in _STATUSES:
        table.add_column(name, justify="right")
    for queue, counts in sorted(stats.counts.items()):
        table.add_row(queue, *(str(counts.get(name, 0)) for name in _STATUSES))
    console.print(table)
    due, claimed = _age(stats.oldest_due_at), _age(stats.oldest_claimed_at)
    if due is not None:
        when = f"due for {due:.1f} s" if due >= 0 else f"due in {-due:.1f} s"
        console.print(f"Oldest pending message: {when}", highlight=False)
        if due >= _LONG_DUE_S and not any(each.get("processing") for each in stats.counts.values()):
            console.print(_NOBODY, highlight=False)
    if claimed is not None:
        console.print(f"Longest running message: {claimed:.1f} s", highlight=False)


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _age(when: datetime | None) -> float | None:
    """Seconds since then; negative when it is still to come."""
    return None if when is None else round((datetime.now(UTC) - when).total_seconds(), 3)
