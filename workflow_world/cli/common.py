"""What all commands share: which database, ``-v``, the file ``.env``, and errors as one line.

Nothing here imports a backend or its libraries: ``--version`` and ``--help`` must not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click
from rich.console import Console
from rich.text import Text

from ..errors import WorldError
from ..factory import DEFAULT_URL, URL_VARIABLES, create_world
from ..registry import redact, scheme_of
from ..settings import env_text
from ..world import World

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_VERBOSE: Final = "workflow_world.verbose"
_ENV_NAMES: Final = ("DEPLOYMENT_ID", "PORT")
_ENV_PREFIX: Final = "WORKFLOW_"
_COMMENT: Final = re.compile(r"(?:^|\s+)#")

logger = logging.getLogger("workflow_world.cli")


class CommandError(WorldError):
    """A command cannot go on; the message is for whoever typed it."""


class Commands(click.Group):
    """A group whose commands end with ``error: …`` and 1 instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.parent is None:
            load_dotenv(Path(".env"), os.environ)
        try:
            return super().invoke(ctx)
        except WorldError as error:
            if ctx.parent is not None:
                raise
            if is_verbose(ctx):
                logger.exception("The command failed")
            raise Failure(str(error)) from error


class Failure(click.ClickException):
    """One line on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        line = " ".join(self.message.split())
        console = Console(stderr=True) if file is None else Console(file=file)
        console.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The database that a command is about; None means what the environment or default says.

    ``options`` are those of ``create_world`` that were given on the command line.
    """

    url: str | None
    options: Mapping[str, Any]

    @property
    def full_url(self) -> str:
        return (self.url or env_text(URL_VARIABLES, os.environ) or DEFAULT_URL).strip()

    @property
    def is_given(self) -> bool:
        """Whether the command line says anything of it."""
        return self.url is not None or bool(self.options)

    def __str__(self) -> str:
        """The URL without secrets."""
        return redact(self.full_url)

    @contextlib.contextmanager
    def accepted(self) -> Generator[None]:
        """Around what makes a backend without connecting: a TypeError is about an option.

        Raises: CommandError for an option that this database does not know.
        """
        try:
            yield
        except TypeError as error:
            raise CommandError(f"{self} takes no such option: {error}") from error


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--url``, ``--schema`` and ``--table-prefix``, handed to the command as ``target``."""

    @wraps(command)
    def with_target(
        url: str | None, schema: str | None, table_prefix: str | None, **others: Any
    ) -> None:
        given = {"schema": schema, "table_prefix": table_prefix}
        options = {name: value for name, value in given.items() if value is not None}
        if url is not None and not url.strip():
            raise click.UsageError("--url is empty: leave it out for the default")
        command(target=Target(url=url, options=options), **others)

    names = ", ".join(f"${name}" for name in URL_VARIABLES)
    for option in (
        click.option(
            "--table-prefix", metavar="TEXT", help="What the names of the tables begin with."
        ),
        click.option(
            "--schema",
            metavar="NAME",
            help="Schema of the tables, on Postgres. Default: the role's search_path.",
        ),
        click.option(
            "--url", metavar="URL", help=f"Database URL. Default: {names}, else {DEFAULT_URL}."
        ),
    ):
        with_target = option(with_target)
    return with_target


def with_world(target: Target, use: Callable[[World], Awaitable[T]]) -> T:
    """Look at an existing database: the schema is checked, never created.

    Raises: CommandError for one that only the process has which made it.
    """
    if scheme_of(target.full_url) == "memory":
        raise CommandError(f"{target} is the memory of one process: name a database to look at")

    async def run() -> T:
        with target.accepted():
            world = create_world(target.url, auto_migrate=False, **target.options)
        try:
            return await use(world)
        finally:
            await world.close()

    return asyncio.run(run())


def verbose_option(command: F) -> F:
    """``-v``: debug logging and tracebacks. Read with ``is_verbose``."""

    def turn_on(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().meta[_VERBOSE] = True
            logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
            logging.getLogger("workflow_world").setLevel(logging.DEBUG)

    option = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=turn_on,
        help="Debug logging, and a traceback when something fails.",
    )
    return option(command)


def is_verbose(ctx: click.Context) -> bool:
    return bool(ctx.find_root().meta.get(_VERBOSE))


def load_dotenv(path: Path, environ: MutableMapping[str, str]) -> None:
    """Take this package's variables from a ``.env`` file; a variable that is set wins.

    Lines are ``NAME=value`` or ``export NAME=value``; a value may be quoted; ``#`` begins a
    comment, at the start of a line or behind a blank. Other variables are the application's and
    are left to it (spec 6.5).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for name, value in _assignments(text).items():
        if (name.startswith(_ENV_PREFIX) or name in _ENV_NAMES) and not environ.get(name):
            environ[name] = value


def _assignments(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip().removeprefix("export ").strip()
        name, equals, value = line.partition("=")
        if not equals or line.startswith("#"):
            continue
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> str:
    """Without its quotes, and without the comment behind it."""
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        rest = text[end + 1 :].lstrip()
        if not rest or rest.startswith("#"):
            return text[1:end]
    return _COMMENT.split(text, maxsplit=1)[0]
