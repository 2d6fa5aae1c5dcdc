"""Did it hold? Each promise that the demo shows is checked against what really happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .record import Record, times_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise, and whether it held. ``detail`` says what was found instead."""

    promise: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the demo saw.

    Attributes:
        steps: every step of the workflow, in words.
        interrupted: the steps in flight when the worker was killed, at ``killed_at``.
        chunks: the live stream as it was read, with the time of each chunk.
        slept_s: how long the workflow asked to sleep.
        stopped_with: exit code of the second worker after SIGTERM.
    """

    record: Record
    steps: Sequence[str]
    interrupted: frozenset[str]
    killed_at: float
    chunks: Sequence[tuple[float, str]]
    expected_chunks: Sequence[str]
    result: object
    expected_result: object
    slept_s: float
    stopped_with: int


def check(seen: Evidence) -> list[Check]:
    """One ``Check`` for each promise, in the order to show them."""
    record = seen.record
    executed, outcomes, retries = record.executed(), record.outcomes(), record.retries()
    undisturbed = {
        step: executed.get(step, 0) for step in seen.steps if step not in seen.interrupted
    }
    once = {step: 1 + retries.get(step, 0) for step in undisturbed}
    cut_off = {step: executed.get(step, 0) for step in seen.interrupted}
    return [
        Check(
            promise="The result is right",
            held=seen.result == seen.expected_result,
            detail=f"{seen.result!r} instead of {seen.expected_result!r}",
        ),
        Check(
            promise="Each step has exactly one recorded outcome",
            held=dict(outcomes) == dict.fromkeys(seen.steps, 1),
            detail=_counts(outcomes),
        ),
        Check(
            promise="Finished steps were not run again",
            held=undisturbed == once,
            detail=_counts(undisturbed),
        ),
        Check(
            promise="The step that the kill cut off was run again, once",
            held=bool(cut_off) and all(count == 2 for count in cut_off.values()),
            detail=_counts(cut_off) or "nothing was running at the kill",
        ),
        Check(
            promise="The step that failed was retried",
            held=sum(retries.values()) == 1,
            detail=_counts(retries) or "no failure was recorded",
        ),
        _sleep(record, seen.slept_s),
        Check(
            promise="The hook was received once",
            held=record.count("hook_received") == 1,
            detail=f"{record.count('hook_received')} times",
        ),
        _stream(seen),
        Check(
            promise="The run ended once",
            held=record.count("run_completed") == 1 and record.count("run_failed") == 0,
            detail=f"{record.count('run_completed', 'run_failed')} times",
        ),
        Check(
            promise="The second worker stopped cleanly",
            held=seen.stopped_with == 0,
            detail=f"exit code {seen.stopped_with}",
        ),
    ]


def _sleep(record: Record, asked_s: float) -> Check:
    began, ended = (
        times_of(record.events, "wait_created"),
        times_of(record.events, "wait_completed"),
    )
    slept = ended[0] - began[0] if len(began) == len(ended) == 1 else None
    return Check(
        promise="The sleep was not cut short",
        # Stored times have whole milliseconds, so they may differ by one.
        held=slept is not None and slept >= asked_s - 0.002,
        detail=f"{len(ended)} ends" if slept is None else f"{slept:.3f} s",
    )


def _stream(seen: Evidence) -> Check:
    values = [value for _, value in seen.chunks]
    ended = times_of(seen.record.events, "run_completed")
    live = bool(seen.chunks and ended) and seen.chunks[0][0] < ended[0]
    return Check(
        promise="The stream arrived live, complete and in order",
        held=values == list(seen.expected_chunks) and live,
        detail=f"{values!r}" if live else "it came only when the run had ended",
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{step}: {count}" for step, count in counts.items())
