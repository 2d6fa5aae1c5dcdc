"""List reads: one statement each, whatever the filters (spec 3.1 to 3.4)."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from ..core.paging import Query
from ..core.values import to_ms
from .compiled import Statement, adhoc, const
from .damage import RUN_WIDTH
from .rows import json_of_text
from .run_statements import columns
from .tables import ONCE, Tables


def list_runs(tables: Tables, query: Query) -> Statement:
    runs = tables.runs
    found: list[ColumnElement[bool]] = []
    if query.workflow_name is not None:
        found.append(runs.c.workflow_name == query.workflow_name)
    if query.statuses:
        found.append(runs.c.status.in_(query.statuses))
    if query.deployment_id is not None:
        found.append(runs.c.deployment_id == query.deployment_id)
    if query.created_after is not None:
        found.append(runs.c.created_at > to_ms(query.created_after))
    if query.created_before is not None:
        found.append(runs.c.created_at < to_ms(query.created_before))
    found.extend(_HasAttribute(runs.c.attributes, key, value) for key, value in query.attributes)
    chosen = columns(runs, payloads=query.payloads, width=RUN_WIDTH)
    return _page(
        "list runs", select(*chosen).where(*found), query, runs.c.created_at, runs.c.run_id
    )


def list_steps(tables: Tables, query: Query) -> Statement:
    steps = tables.steps
    found = [steps.c.run_id == query.run_id]
    if query.statuses:
        found.append(steps.c.status.in_(query.statuses))
    chosen = columns(steps, payloads=query.payloads)
    return _page(
        "list steps", select(*chosen).where(*found), query, steps.c.created_at, steps.c.step_id
    )


def list_events(tables: Tables, query: Query) -> Statement:
    events = tables.events
    found: list[ColumnElement[bool]] = []
    if query.run_id is not None:
        found.append(events.c.run_id == query.run_id)
    if query.correlation_id is not None:
        found.append(events.c.correlation_id == query.correlation_id)
    if query.event_types:
        found.append(events.c.event_type.in_(query.event_types))
    chosen = select(*events.columns).where(*found)
    if query.run_id is not None:
        return _page("list events", chosen, query, events.c.position)
    return _page(
        "list events", chosen, query, events.c.created_at, events.c.run_id, events.c.position
    )


def list_hooks(tables: Tables, query: Query) -> Statement:
    hooks = tables.hooks
    chosen = select(*columns(hooks, payloads=query.payloads))
    if query.run_id is not None:
        chosen = chosen.where(hooks.c.run_id == query.run_id)
    return _page("list hooks", chosen, query, hooks.c.created_at, hooks.c.run_id, hooks.c.hook_id)


def list_waits(tables: Tables, query: Query) -> Statement:
    """Each row is a ``wait_created`` row followed by its ``wait_completed`` row, or by NULLs."""
    created = tables.events
    completed = created.alias("completed_wait")
    join = created.join(
        tables.runs,
        and_(tables.runs.c.run_id == created.c.run_id, tables.runs.c.completed_at.is_(None)),
    ).outerjoin(
        completed,
        and_(
            completed.c.run_id == created.c.run_id,
            completed.c.correlation_id == created.c.correlation_id,
            completed.c.event_type == const("wait_completed"),
            # The index that holds single events, in its own words.
            text(_of_alias(ONCE, completed.name)),
        ),
    )
    chosen = (
        select(*created.columns, *completed.columns)
        .select_from(join)
        .where(created.c.event_type == const("wait_created"))
    )
    if query.run_id is not None:
        chosen = chosen.where(created.c.run_id == query.run_id)
    if query.correlation_id is not None:
        chosen = chosen.where(created.c.correlation_id == query.correlation_id)
    return _page(
        "list waits",
        chosen,
        query,
        created.c.created_at,
        created.c.run_id,
        created.c.correlation_id,
    )


def _of_alias(condition: str, alias: str) -> str:
    for column in ("event_type", "correlation_id"):
        condition = condition.replace(column, f"{alias}.{column}")
    return condition


def _page(
    name: str, chosen: Select[*tuple[Any, ...]], query: Query, *key: ColumnElement[Any]
) -> Statement:
    if query.after is not None:
        mine, seen = tuple_(*key), tuple_(*(literal(part) for part in query.after))
        chosen = chosen.where(mine < seen if query.descending else mine > seen)
    order = [column.desc() if query.descending else column.asc() for column in key]
    return adhoc(name, chosen.order_by(*order).limit(query.limit))


class _HasAttribute(ColumnElement[bool]):
    """Whether a column of JSON, a map from text to text, has this pair."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, column: ColumnElement[str], key: str, value: str) -> None:
        self.column, self.pair = column, (key, value)


@compiles(_HasAttribute)
def _by_json(element: _HasAttribute, compiler: SQLCompiler, **options: Any) -> str:
    """Compares keys as values, so that no key can reach into a JSON path."""
    if "\0" in "".join(element.pair):
        return compiler.process(_in_text(element), **options)
    # A damaged row has no attributes, instead of failing the list for all others.
    readable = case((func.json_valid(element.column), element.column), else_="{}")
    pairs = func.json_each(readable).table_valued("key", "value", name="attribute")
    found = exists(
        select(1)
        .select_from(pairs)
        .where(
            pairs.c.key == bindparam(None, element.pair[0]),
            pairs.c.value == bindparam(None, element.pair[1]),
        )
    )
    return compiler.process(found, **options)


def _in_text(element: _HasAttribute) -> ColumnElement[bool]:
    """SQLite's functions for JSON read a text up to its first NUL only. With one in it, a pair as
    ``json_of`` wrote it is nowhere but where it is a pair: a quote behind a bracket or a comma
    is not an escaped one, and if it ended a text, ``\\u0000`` would stand outside of all texts.
    """
    pair = ":".join(map(json_of_text, element.pair))
    at = [func.instr(element.column, bindparam(None, before + pair)) for before in "{,"]
    return and_(func.json_valid(element.column), or_(at[0] == 1, at[1] > 0))


@compiles(_HasAttribute, "postgresql")
def _by_text(element: _HasAttribute, compiler: SQLCompiler, **options: Any) -> str:
    """Reads the text as ``json_of`` wrote it, from its first bracket on: the functions for JSON
    refuse all of it when any text has a NUL."""
    string = r'"([^"\\]|\\.)*"'
    pair = ":".join(_literally(json_of_text(part)) for part in element.pair)
    pattern = rf"^\{{({string}:{string},)*{pair}[,}}]"
    return compiler.process(element.column.regexp_match(pattern), **options)


def _literally(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", lambda found: "\\" + found[0], text)
