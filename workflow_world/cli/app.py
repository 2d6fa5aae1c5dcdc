"""The commands, put together; each is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from .. import __version__
from .common import Commands

_MODULES: Final = {
    "check": "check",
    "db": "database",
    "demo": "demo",
    "inspect": "inspect",
    "purge": "queue",
    "repair": "check",
    "setup": "database",
    "status": "queue",
    "worker": "worker",
}
"""Command -> the module that defines it, under the same name."""


class App(Commands):
    """All commands, without what they import: ``--version`` needs no SQLAlchemy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f".{module}", __package__), cmd_name)
        return command


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="workflow-world")
def app() -> None:
    """Durable storage, queue and live streams for the Workflow SDK.

    Commands read the environment variables WORKFLOW_* and a file .env in the current directory.
    """
