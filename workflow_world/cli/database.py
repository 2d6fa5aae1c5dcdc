"""``workflow-world db …``, for the schema of a SQL database, and ``setup``, for any."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from ..factory import create_world
from ..registry import opener_for, scheme_of
from ..sql import check_options, migrate, open_backend
from .common import CommandError, Commands, Target, target_options, verbose_option

if TYPE_CHECKING:
    from ..sql.postgres.grants import Rights


@click.group(cls=Commands)
def db() -> None:
    """Create, upgrade or check the database schema."""


@db.command()
@target_options
@verbose_option
@click.argument("revision", default="head")
def upgrade(target: Target, revision: str) -> None:
    """Create the schema, or upgrade it to REVISION (default: head)."""
    _upgrade(target, revision)


@db.command()
@target_options
@verbose_option
def check(target: Target) -> None:
    """Exit with 0 when the schema is the one that this version needs; alter nothing."""
    migrate.check(_url(target), **target.options)
    click.echo(f"{target}: the schema is up to date")


@db.command()
@target_options
@verbose_option
def current(target: Target) -> None:
    """Print the revision of the schema, or "none"."""
    click.echo(_current(target) or "none")


@db.command()
@target_options
@verbose_option
@click.argument("revision", default="head")
def sql(target: Target, revision: str) -> None:
    """Print the SQL that creates the schema up to REVISION, without running it."""
    url, options = _url(target), target.options
    prefix, schema = options.get("table_prefix", ""), options.get("schema")
    click.echo(migrate.offline_sql(url, revision, prefix, schema=schema), nl=False)


@db.command()
@target_options
@verbose_option
@click.option("--role", required=True, metavar="NAME", help="The role that is to have the rights.")
@click.option(
    "--rights",
    type=click.Choice(["run", "read", "migrate"]),
    default="run",
    show_default=True,
    help="Work without DDL, only look, or create and upgrade the schema.",
)
def grants(target: Target, role: str, rights: Rights) -> None:
    """Print the SQL that gives a Postgres role the rights it needs, without running it."""
    click.echo(migrate.grants_sql(_url(target), role, rights, **target.options), nl=False)


@db.command()
@target_options
@verbose_option
@click.option("--to", required=True, metavar="URL", help="The empty database that gets it all.")
@click.option("--to-table-prefix", metavar="TEXT", help="What its tables' names begin with.")
@click.option("--to-schema", metavar="NAME", help="Schema of its tables, on Postgres.")
def copy(target: Target, to: str, to_table_prefix: str | None, to_schema: str | None) -> None:
    """Copy all runs, messages and streams into another, empty database.

    Stop all workers and applications first.
    """
    from ..sql.copying import Place
    from ..sql.copying import copy as copy_database

    given = {"table_prefix": to_table_prefix, "schema": to_schema}
    other = Target(url=to, options={name: value for name, value in given.items() if value})
    source = Place(url=_url(target), options=target.options)
    copy_database(
        source,
        Place(url=_url(other), options=other.options),
        lambda table, count: click.echo(f"{table}: {count} rows"),
    )
    click.echo(f"{other} has all of {target} now: set its URL, and start the workers")


@click.command()
@target_options
@verbose_option
def setup(target: Target) -> None:
    """Create or upgrade the schema: "db upgrade", and on MongoDB its collections and indexes."""
    if scheme_of(target.full_url) != "mongodb":
        _upgrade(target, "head")
        return

    async def run() -> None:
        with target.accepted():
            world = create_world(target.url, **target.options)
        try:
            await world.backend.open()
        finally:
            await world.close()

    asyncio.run(run())
    click.echo(f"{target}: ready")


def _upgrade(target: Target, revision: str) -> None:
    migrate.upgrade(_url(target), revision, **target.options)
    click.echo(f"{target}: the schema is at {_current(target)}")


def _current(target: Target) -> str | None:
    return migrate.current(_url(target), **target.options)


def _url(target: Target) -> str:
    """Raises: ConfigurationError for an unknown scheme, CommandError for one without a schema or
    for an option that is not the database's."""
    if opener_for(target.full_url) is not open_backend:
        raise CommandError(f"{target} is not a SQL database: it has no schema to create or check")
    with target.accepted():
        check_options(target.full_url, **target.options)
    return target.full_url
