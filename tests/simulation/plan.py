"""What a seed asks for: runs with their programs, messages, faults and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from .faulty import Chances

Part = dict[str, Any]
"""A step, sleep, hook or attribute of a program, as it is stored in the run's input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run and what its clients do.

    Attributes:
        program: stages one after the other, each of parts that run side by side.
        hooks: hook ids, and after how many seconds each is resumed; None: never.
        forgets: the client dies after an event and before the message that should follow it.
        cancelled_after: seconds; None: never.
        reads: a client reads the stream live.
    """

    run_id: str
    starts_after: float
    program: list[list[Part]]
    hooks: dict[str, float | None] = field(default_factory=dict)
    forgets: bool = False
    cancelled_after: float | None = None
    reads: bool = False

    @property
    def parts(self) -> list[Part]:
        return [part for stage in self.program for part in stage]

    @property
    def tokens(self) -> dict[str, str]:
        """By hook id."""
        return {part["id"]: part["token"] for part in self.parts if part["kind"] == "hook"}

    @property
    def fatal(self) -> bool:
        return any(part.get("fatal") for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class PingPlan:
    """A plain message whose first ``fails`` deliveries raise."""

    name: str
    starts_after: float
    fails: int
    delay: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``chaos`` are the faults of whole processes, ``every`` their mean distance in seconds."""

    chances: Chances
    chaos: tuple[str, ...]
    every: float
    lasts: float
    workers: int
    options: dict[str, Any]
    runs: list[RunPlan]
    pings: list[PingPlan]


CHAOS = ("kill", "restart", "pause", "busy", "clock")


def plan_of(random: Random) -> Plan:
    """Faults in a different mix for each seed: what always happens hides what else could."""

    def maybe(high: float) -> float:
        return random.choice((0, 0, high / 10, high))

    lock_s = random.choice((1, 3, 10))
    chaos = tuple(name for name in CHAOS if random.random() < 0.5)
    return Plan(
        chances=Chances(
            refused=maybe(0.1),
            unknown=maybe(0.1),
            slow=maybe(0.5),
            crash_between=maybe(0.01),
            crash_within=maybe(0.003),
            broken_statement=maybe(0.02),
            locked=maybe(0.2),
            lost_wake_up=random.choice((0, 0, 0.3, 1)),
            late_wake_up=maybe(0.5),
            cancelled=maybe(0.2),
        ),
        chaos=chaos,
        every=random.uniform(1, 15),
        lasts=random.uniform(5, 60),
        workers=random.randint(1, 3),
        options={
            "concurrency": random.choice((1, 2, 5, 20)),
            "poll_interval_ms": random.choice((200, 1000, 3000)),
            "lock_duration_ms": lock_s * 1000,
            "recovery_interval_ms": random.choice((2000, 10_000)),
            "recovery_grace_ms": random.choice((500, 3000)),
            "serialize_runs": random.random() < 0.7,
            "shutdown_timeout_ms": random.choice((0, 1000, 5000)),
            "max_retries": 3,
            "completed_retention_s": random.choice((3600, 1, 0)),
            "failed_retention_s": random.choice((3600, 3600, 0)),
            "idempotency_ttl_ms": random.choice((5000, 500, 0)),
        },
        runs=[_run(random, number) for number in range(random.randint(1, 5))],
        pings=[
            PingPlan(
                name=f"ping{number}",
                starts_after=random.uniform(0, 20),
                fails=random.choice((0, 0, 1, 2, 5)),
                delay=random.choice((None, None, 3.0)),
            )
            for number in range(random.randint(0, 4))
        ],
    )


def _run(random: Random, number: int) -> RunPlan:
    run_id = f"wrun_{number}"
    hooks: dict[str, float | None] = {}
    program: list[list[Part]] = []
    for stage in range(random.randint(1, 3)):
        parts: list[Part] = []
        for place in range(random.choice((1, 1, 2, 4))):
            name = f"{number}_{stage}_{place}"
            kind = random.choice(("step", "step", "step", "step", "sleep", "hook", "attribute"))
            if kind == "step":
                parts.append(_step(random, f"step_{name}"))
            elif kind == "sleep":
                seconds = random.choice((0.0, 0.5, 4.0))
                parts.append({"kind": "sleep", "id": f"wait_{name}", "seconds": seconds})
            elif kind == "hook":
                hooks[f"hook_{name}"] = random.choice((0.0, 2.0, 10.0, 10.0, None))
                parts.append(_hook(random, name))
            else:
                parts.append({"kind": "attribute", "id": f"attr_{name}"})
        program.append(parts)
    return RunPlan(
        run_id=run_id,
        starts_after=random.uniform(0, 15),
        program=program,
        hooks=hooks,
        forgets=random.random() < 0.2,
        cancelled_after=random.uniform(0, 20) if random.random() < 0.15 else None,
        reads=random.random() < 0.4,
    )


def _hook(random: Random, name: str) -> Part:
    """Every other one wants a token that other hooks want too."""
    token = random.choice((f"token_{name}", "token_of_all"))
    return {
        "kind": "hook",
        "id": f"hook_{name}",
        "token": token,
        "disposes": random.random() < 0.5,
    }


def _step(random: Random, step_id: str) -> Part:
    return {
        "kind": "step",
        "id": step_id,
        "fails": random.choice((0, 0, 0, 1, 2)),
        "raises": random.choice((0, 0, 0, 1)),
        "fatal": random.random() < 0.05,
        "work": random.choice((0.0, 0.0, 0.2, 5.0)),
        "chunks": random.choice((0, 0, 1, 3)),
        "says": random.random() < 0.2,
    }
