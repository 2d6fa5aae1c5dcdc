"""``workflow-world demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from .common import verbose_option


@click.command()
@verbose_option
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave the database, the workflow and the worker's log here. Default: a temporary one.",
)
def demo(directory: Path | None) -> None:
    """Kill a worker in mid-workflow and watch the next carry on.

    Takes about ten seconds. Exits with 1 when anything was lost, repeated or wrong.
    """
    from ..demo import run_demo

    if not run_demo(Console(highlight=False), directory):
        sys.exit(1)
