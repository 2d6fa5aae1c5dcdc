"""What is known of the server's time between two of its answers."""

from __future__ import annotations

import time

import pytest

from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.core.values import from_ms
from workflow_world.server_clock import ServerClock

START_MS = 1_900_000_000_000


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """This machine's seconds, in the hands of the test."""
    seconds = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def clock_at(milliseconds: int) -> ServerClock:
    clock = ServerClock(SYSTEM_CLOCK)
    clock.learn(milliseconds)
    return clock


def test_an_answer_that_comes_late_does_not_set_it_back(passed: list[float]) -> None:
    clock = clock_at(START_MS)
    passed[0] += 1
    clock.learn(START_MS + 940)  # it took 60 ms
    assert clock.now() == from_ms(START_MS + 1_000)


def test_an_answer_that_comes_sooner_sets_it_forward(passed: list[float]) -> None:
    clock = clock_at(START_MS)
    passed[0] += 1
    clock.learn(START_MS + 1_050)
    assert clock.now() == from_ms(START_MS + 1_050)


def test_a_server_whose_clock_is_set_back_is_followed(passed: list[float]) -> None:
    clock = clock_at(START_MS)
    passed[0] += 1
    clock.learn(START_MS - 3_600_000)
    assert clock.now() == from_ms(START_MS - 3_600_000)


def test_no_answer_is_kept_for_ever(passed: list[float]) -> None:
    """The clocks drift."""
    clock = clock_at(START_MS)
    passed[0] += 31
    clock.learn(START_MS + 30_990)
    assert clock.now() == from_ms(START_MS + 30_990)
