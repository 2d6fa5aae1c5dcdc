"""``workflow-world worker``: a process that does nothing but deliver messages."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import click

from ..core.values import without_credentials
from ..factory import install
from ..world import World
from .common import CommandError, Target, is_verbose, target_options, verbose_option

logger = logging.getLogger("workflow_world.cli")


@click.command()
@target_options
@verbose_option
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.pass_context
def worker(ctx: click.Context, target: Target, modules: Sequence[str]) -> None:
    """Run the workflows of each MODULE until SIGTERM or SIGINT.

    The World is installed before the modules are imported, so they need not do it; one that
    does keeps its own. On the first
    signal the worker claims nothing more and lets running steps end, for 30 seconds at most; on
    the second it stops at once.
    """
    if not is_verbose(ctx):
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    with target.accepted():
        ours = install(target.url, **target.options)
    from ..vercel.install import give_way

    give_way()
    import_modules(modules)
    world = _installed(ours)
    if not world.handled_prefixes and world.settings.delivery != "http":
        raise CommandError(
            f"nothing to work on: importing {', '.join(modules)} created no Workflows()"
        )
    if world is not ours and target.is_given:
        raise CommandError(
            f"{', '.join(modules)} installs a World of its own: leave --url, --schema and "
            "--table-prefix out to work on that"
        )
    _run(_work(world, f"{world.url or world} with {', '.join(modules)}"))


def _installed(ours: World) -> World:
    """The World in use after the imports: a module may have installed its own."""
    from ..vercel import attached

    return attached() or ours


def import_modules(modules: Sequence[str]) -> None:
    """Import the modules, from the current directory too.

    Raises: CommandError for the first that cannot be imported; nothing was started.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    for module in modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            said = without_credentials(f"{type(error).__name__}: {error}")
            raise CommandError(
                f"cannot import {module}: {said}{_hint(module, error, here)}"
            ) from error


def _hint(module: str, error: BaseException, here: str) -> str:
    name = module.partition(":")[0].removesuffix(".py").strip("./").replace(os.sep, ".")
    if name and name != module:
        return f" (write the name of the module: {name})"
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return f" (it is neither in {here} nor installed: start the worker where it is)"
    return ""


def _run(work: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run``, but a step's task that calls ``exit()`` does not end the process.

    asyncio gives such an exit to whoever awaits the task, as it does with any error, and throws it
    out of the event loop as well, which can simply go on.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(work)
        while True:
            try:
                return loop.run_until_complete(task)
            except SystemExit as error:
                if task.done():
                    raise
                logger.error("A task called exit(%s); the worker goes on", error)


async def _work(world: World, what: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        # From here on the system's own handling is back: a second signal ends the process.
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        click.echo(f"{number.name}: finishing what runs", err=True)
        stop.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each)
    async with world:
        # What was imported stays for good. To look through it takes a full collection of garbage,
        # which stops everything, a tenth of a second (measured).
        gc.collect()
        gc.freeze()
        click.echo(
            f"working on {what} (pid {os.getpid()}, in {os.getcwd()}); stop with Ctrl+C", err=True
        )
        await stop.wait()
    click.echo("stopped", err=True)
