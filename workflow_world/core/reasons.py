"""Why a run is where it is: what it waits for, or what ended it, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from .delivery import without_an_end
from .entities import Hook, Message, Run, Step, Wait
from .values import iso_ms

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is stored about a run. Of its steps only those that are open or failed are needed, of
    its waits and messages those that are not completed."""

    run: Run
    steps: Sequence[Step] = ()
    waits: Sequence[Wait] = ()
    hooks: Sequence[Hook] = ()
    messages: Sequence[Message] = ()


def reasons(facts: Facts, now: datetime) -> list[str]:
    """Why the run has ended as it did, or all that it waits for; never empty."""
    if facts.run.is_final:
        return _end(facts)
    open_steps = [step for step in facts.steps if not step.is_final]
    return [
        *_replay(facts, now),
        *(line for step in open_steps for line in _step(step, facts, now)),
        *(_sleep(wait, now) for wait in facts.waits if wait.status == "waiting"),
        *(f"It waits for the hook {hook.hook_id}" for hook in facts.hooks),
    ] or [
        "Nothing is under way for it: a worker's recovery resumes it within a minute or two, or "
        "'workflow-world repair' shows what can be done"
    ]


def _end(facts: Facts) -> list[str]:
    run = facts.run
    when = "" if run.completed_at is None else f" at {iso_ms(run.completed_at)}"
    verb = "was cancelled" if run.status == "cancelled" else run.status
    lines = [f"It {verb}{when}" + (f": {run.error_code}" if run.error_code else "")]
    if run.status == "failed":
        lines += [
            f"Step {_name(step)} failed in attempt {step.attempt}"
            for step in facts.steps
            if step.status == "failed"
        ]
        lines += [
            f"Message {message.message_id} was given up in attempt {message.attempt}"
            + _last_error(message)
            for message in facts.messages
            if message.status == "failed"
        ]
    return lines


def _replay(facts: Facts, now: datetime) -> Iterable[str]:
    """Of the messages that make it go on, rather than one of its steps."""
    begins = facts.run.status == "pending"
    what = "Its start" if begins else "Its next replay"
    for message in facts.messages:
        if message.step_id is None and message.status != "failed":
            yield _delivery(what, message, now)
    if begins and not facts.messages:
        yield "No message asks a worker to start it: 'workflow-world repair' shows what can be done"


def _step(step: Step, facts: Facts, now: datetime) -> Iterable[str]:
    what = f"Step {_name(step)}"
    mine = [one for one in facts.messages if one.step_id == step.step_id]
    for message in mine:
        if message.status == "failed":
            yield f"{what} was given up in attempt {message.attempt}{_last_error(message)}"
        else:
            yield _delivery(what, message, now)
    if not mine:
        yield f"{what} has no message: the run's next replay, or a worker's recovery, makes one"


def _delivery(what: str, message: Message, now: datetime) -> str:
    if message.status == "processing" and message.leased_until is not None:
        claimed = message.claimed_at or message.updated_at
        if message.leased_until > now:
            state = f"is being delivered, for {_span(now - claimed)} now"
        else:
            state = "was being delivered when its worker vanished: the next worker takes it over"
    elif message.available_at > now:
        state = f"is due in {_span(message.available_at - now)}"
    else:
        state = (
            f"has been due for {_span(now - message.available_at)}, and no worker of the queue "
            f"{message.queue_name} has taken it"
        )
    lost = without_an_end(message)
    return (
        f"{what} {state} (attempt {message.attempt} of {message.max_attempts})"
        + (f"; {lost} deliveries never came to an end" if lost > 0 else "")
        + _last_error(message)
    )


def _sleep(wait: Wait, now: datetime) -> str:
    if wait.resume_at is None:
        return f"It sleeps without an end ({wait.wait_id})"
    if wait.resume_at > now:
        left = _span(wait.resume_at - now)
        return f"It sleeps until {iso_ms(wait.resume_at)}, for {left} more ({wait.wait_id})"
    return f"Its sleep is over since {_span(now - wait.resume_at)} ({wait.wait_id})"


def _name(step: Step) -> str:
    return f"{step.step_name} ({step.step_id})"


def _last_error(message: Message) -> str:
    error: Mapping[str, object] = message.last_error or {}
    return f"; last error: {error['message']}" if error.get("message") else ""


def _span(time: timedelta) -> str:
    seconds = max(0.0, time.total_seconds())
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
