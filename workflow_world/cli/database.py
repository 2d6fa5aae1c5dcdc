"""``workflow-world db …`` and ``setup``: the schema of a SQL database."""

from __future__ import annotations

import click

from ..sql import migrate
from .common import Commands, Target, target_options, verbose_option


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
    migrate.check(target.full_url, table_prefix=target.table_prefix)
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
    click.echo(migrate.offline_sql(target.full_url, revision, target.table_prefix or ""), nl=False)


@click.command()
@target_options
@verbose_option
def setup(target: Target) -> None:
    """Create or upgrade the schema: short for "db upgrade"."""
    _upgrade(target, "head")


def _upgrade(target: Target, revision: str) -> None:
    migrate.upgrade(target.full_url, revision, table_prefix=target.table_prefix)
    click.echo(f"{target}: the schema is at {_current(target)}")


def _current(target: Target) -> str | None:
    return migrate.current(target.full_url, table_prefix=target.table_prefix)
