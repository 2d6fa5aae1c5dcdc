"""The commands, put together."""

from __future__ import annotations

import click

from .. import __version__
from .check import check, repair
from .common import Commands
from .database import db, setup
from .demo import demo
from .queue import purge, status
from .worker import worker


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workflow-world")
def app() -> None:
    """Durable storage, queue and live streams for the Workflow SDK.

    Commands read the environment variables WORKFLOW_* and a file .env in the current directory.
    """


for command in (demo, worker, setup, db, status, purge, check, repair):
    app.add_command(command)
