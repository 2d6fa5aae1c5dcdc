"""What must hold of a run's rows, and what is wrong where it does not: pure rules, for ``check``.

Two halves. A log is judged by itself: dense, in order, every event legal at its place (spec 2.2
to 2.10), written from the spec and not from the rules that wrote it. Only what a sound log says
is then held against the stored rows, through the fold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, cast

from ..errors import WorldError
from .entities import Event, Hook, Run, Step, Wait
from .events import EVENT_TYPES, MAX_SPEC_VERSION, SLOT_IDS_SPEC_VERSION
from .fold import Folded, due_times_of, fold
from .lifecycle import Lifecycle
from .recovery import WakeUp
from .rules import Owner
from .ulid import ULID_LENGTH, ulid_time
from .values import is_safe_id, iso_ms

_EVENT_PREFIXES: Final = ("evnt_", "wevt_")
"""The second is read but never written (spec 1.2)."""

_OWNER: Final = ("owner_id", "project_id", "environment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: what, as in ``docs/check.md``.
        run_id: the run it is about, where there is one.
        subject: the id of the step, hook, wait, event or message, or the name of the stream.
        fields: for a row that differs from its log, the fields that do.
        wake_up: for a run that nobody will wake, the message that is missing.
    """

    kind: str
    detail: str
    run_id: str | None = None
    subject: str | None = None
    fields: tuple[str, ...] = ()
    wake_up: WakeUp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRows:
    """Everything that is stored of one run, as one instant saw it.

    Attributes:
        log: in position order.
        steps, hooks, waits: by id. Waits count only while the run has not ended.
        unreadable: findings for rows that could not be decoded; nothing else is said of those.
    """

    run_id: str
    run: Run | None = None
    log: Sequence[Event] = ()
    steps: Mapping[str, Step] = field(default_factory=dict[str, Step])
    hooks: Mapping[str, Hook] = field(default_factory=dict[str, Hook])
    waits: Mapping[str, Wait] = field(default_factory=dict[str, Wait])
    unreadable: Sequence[Finding] = ()

    @property
    def spec_version(self) -> int:
        version = self.log[0].spec_version if self.log else self.run and self.run.spec_version
        return version or 1

    @property
    def is_newer(self) -> bool:
        """Written by a newer SDK, with rules of its own: it is not judged."""
        return self.spec_version > MAX_SPEC_VERSION

    @property
    def is_legacy(self) -> bool:
        """Its rows may change without an event (spec 2.10)."""
        return self.spec_version <= 1


def run_findings(rows: RunRows) -> list[Finding]:
    """Everything that is wrong with the rows of a run."""
    if rows.is_newer:
        return []
    known = list(rows.unreadable)
    if any(one.kind == "log-unreadable" for one in known):
        return known
    broken = log_findings(rows.run_id, rows.log)
    if broken:
        # What a damaged log says of the rows would only repeat the damage in other words.
        return [*known, *broken]
    expected = folded(rows)
    if isinstance(expected, Finding):
        return [*known, expected]
    if rows.is_legacy:
        return [*known, *_legacy_run(rows, expected)]
    return [
        *known,
        *_run(rows, expected),
        *_steps(rows, expected),
        *_hooks(rows, expected),
        *_waits(rows, expected),
    ]


def log_findings(run_id: str, log: Sequence[Event]) -> list[Finding]:
    """What is wrong with a log that could be read, whatever the rows say."""
    if not log:
        return [Finding(kind="run-without-log", run_id=run_id, detail="the run has no events")]
    for position, event in enumerate(log, 1):
        if event.position != position:
            text = f"position {position} is missing: the next event is at {event.position}"
            return [Finding(kind="log-gap", run_id=run_id, detail=text)]
    found = [
        _of_event(event, "log-malformed", reason)
        for event in log
        if (reason := _malformed(event)) is not None
    ]
    if found:
        return found
    found = [*_ids(log), *_times(log)]
    lifecycle = Lifecycle(legacy=(log[0].spec_version or 1) <= 1)
    for event in log:
        if (breach := lifecycle.take(event)) is not None:
            found.append(_of_event(event, f"log-{breach.kind}", breach.text))
    return found


def folded(rows: RunRows) -> Folded | Finding:
    """The rows that the log asks for, or why it cannot say. Hooks have no owner in the log: each
    gets that of the stored row."""
    try:
        expected = fold(rows.log)
    except (WorldError, LookupError, TypeError, ValueError, AttributeError) as error:
        text = f"the log cannot be folded: {error}"
        return Finding(kind="log-malformed", run_id=rows.run_id, detail=text)
    hooks = {key: _owned(hook, rows.hooks.get(key)) for key, hook in expected.hooks.items()}
    run = expected.run
    if run is not None and rows.run is not None:
        run = replace(run, expired_at=rows.run.expired_at)  # no event says it
    return replace(expected, hooks=hooks, run=run)


def differences(expected: object, stored: object, but: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the fields in which two records of one type differ."""
    return tuple(
        one.name
        for one in fields(cast("Any", stored))
        if one.name not in but and not same(getattr(expected, one.name), getattr(stored, one.name))
    )


def same(one: object, other: object) -> bool:
    """Equal in value and type, with NaN equal to itself: payloads are kept exactly (spec 1.8)."""
    pairs = [(one, other)]
    while pairs:
        pair = pairs.pop()
        left, right = pair
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            mine = cast("Mapping[object, object]", left)
            theirs = cast("Mapping[object, object]", right)
            if mine.keys() != theirs.keys():
                return False
            pairs.extend((mine[key], theirs[key]) for key in mine)
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            items = cast("Sequence[object]", left), cast("Sequence[object]", right)
            if len(items[0]) != len(items[1]):
                return False
            pairs.extend(zip(*items, strict=True))
        elif not _same_scalar(*pair):
            return False
    return True


def _same_scalar(one: object, other: object) -> bool:
    return type(one) is type(other) and (one == other or (one != one and other != other))


# --- the log by itself -----------------------------------------------------------------------


def _malformed(event: Event) -> str | None:
    kind = EVENT_TYPES.get(event.event_type)
    if kind is None:
        return f"unknown event type {event.event_type!r:.80}"
    if event.correlation_id is None:
        if kind.correlated:
            return f"{event.event_type} has no correlation id"
    elif not is_safe_id(event.correlation_id):
        return "the correlation id is not 1 to 512 characters without NUL"
    data = cast("object", event.event_data)  # a damaged row may hold anything
    if data is not None and not isinstance(data, Mapping):
        return "the event data is not a map"
    content = cast("Mapping[str, object]", data or {})
    if missing := [key for key in kind.required if key not in content]:
        return f"{event.event_type} lacks {', '.join(missing)}"
    if wrong := [key for key in kind.dates if not isinstance(content.get(key), datetime | None)]:
        return f"{', '.join(wrong)} of {event.event_type} is not a time"
    return None


def _ids(log: Sequence[Event]) -> Iterable[Finding]:
    slots, previous = (log[0].spec_version or 1) >= SLOT_IDS_SPEC_VERSION, ""
    for event in log:
        prefix, tail = event.event_id[:5], event.event_id[5:]
        slot = str(event.position).zfill(ULID_LENGTH)
        if prefix not in _EVENT_PREFIXES or ulid_time(tail) is None:
            yield _of_event(event, "log-id", "the event id is not evnt_ and a ULID")
        elif slots and tail != slot:
            yield _of_event(event, "log-id", f"the event id must be evnt_{slot}")
        elif tail <= previous:
            yield _of_event(event, "log-id", "the event id does not rise")
            previous = tail
        else:
            previous = tail


def _times(log: Sequence[Event]) -> Iterable[Finding]:
    for before, event in pairwise(log):
        if event.created_at < before.created_at:
            text = f"{iso_ms(event.created_at)} follows {iso_ms(before.created_at)}"
            yield _of_event(event, "log-time", text)


def _of_event(event: Event, kind: str, reason: str) -> Finding:
    text = f"event {event.position} ({event.event_type}): {reason}"
    return Finding(kind=kind, run_id=event.run_id, subject=event.event_id, detail=text)


# --- the rows against the log ----------------------------------------------------------------


def _run(rows: RunRows, expected: Folded) -> Iterable[Finding]:
    if rows.run is not None and (names := differences(expected.run, rows.run)):
        yield _differs("run", rows.run_id, rows.run_id, names)


def _legacy_run(rows: RunRows, expected: Folded) -> Iterable[Finding]:
    """Its cancel leaves no event; and without the fields to mend, nobody tries to."""
    if rows.run is None:
        return
    cancelled = rows.run.status == "cancelled"
    but = ("status", "completed_at", "updated_at") if cancelled else ()
    if names := differences(expected.run, rows.run, but):
        yield replace(_differs("run", rows.run_id, rows.run_id, names), fields=())


def _steps(rows: RunRows, expected: Folded) -> Iterable[Finding]:
    yield from _set(rows, "step", expected.steps, rows.steps)


def _hooks(rows: RunRows, expected: Folded) -> Iterable[Finding]:
    ended = expected.run is not None and expected.run.is_final
    for one in _set(rows, "hook", expected.hooks, rows.hooks):
        if one.kind == "hook-unexpected" and ended:
            text = "the run has ended, the hook is still live"
            yield replace(one, kind="hook-of-ended-run", detail=text)
        else:
            yield one


def _set(
    rows: RunRows, what: str, expected: Mapping[str, object], stored: Mapping[str, object]
) -> Iterable[Finding]:
    unreadable = {one.subject for one in rows.unreadable if one.kind == f"{what}-unreadable"}
    for key in expected.keys() - stored.keys() - unreadable:
        text = f"the log has the {what}, its row is missing"
        yield Finding(kind=f"{what}-missing", run_id=rows.run_id, subject=key, detail=text)
    for key in stored.keys() - expected.keys():
        text = f"the row is there, the log does not have the {what}"
        yield Finding(kind=f"{what}-unexpected", run_id=rows.run_id, subject=key, detail=text)
    for key in expected.keys() & stored.keys():
        if names := differences(expected[key], stored[key]):
            yield _differs(what, rows.run_id, key, names)


def _waits(rows: RunRows, expected: Folded) -> Iterable[Finding]:
    for key in expected.waits.keys() | rows.waits.keys():
        mine, theirs = expected.waits.get(key), rows.waits.get(key)
        if mine is None or theirs is None:
            state = "missing" if theirs is None else "there without an event"
            yield Finding(
                kind="wait-differs", run_id=rows.run_id, subject=key, detail=f"the wait is {state}"
            )
        elif names := differences(mine, theirs):
            yield _differs("wait", rows.run_id, key, names)
    due = due_times_of(rows.log)
    for event in rows.log:
        if event.due_at == (right := due.get(event.position)):
            continue
        text = "is over but still marked as due" if right is None else "is not marked as due"
        yield Finding(
            kind="wait-due",
            run_id=rows.run_id,
            subject=event.correlation_id,
            detail=f"the wait {text}",
            fields=("due_at",) if right is None else (),
        )


def _differs(what: str, run_id: str, key: str, names: tuple[str, ...]) -> Finding:
    return Finding(
        kind=f"{what}-differs",
        run_id=run_id,
        subject=key,
        fields=names,
        detail=f"differs from the log in {', '.join(names)}",
    )


def _owned(hook: Hook, stored: Hook | None) -> Hook:
    if stored is None:
        return hook
    return replace(hook, **{name: getattr(stored, name) for name in _OWNER})


def with_owner(hook: Hook, owner: Owner) -> Hook:
    """The hook of a log as the World that has this owner would store it."""
    return replace(
        hook,
        owner_id=owner.owner_id,
        project_id=owner.project_id,
        environment=owner.environment,
    )
