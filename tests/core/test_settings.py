"""Options, environment variables and defaults (spec 6.1, 6.2)."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from workflow_world import settings as module
from workflow_world.factory import create_world
from workflow_world.settings import Settings, env_switch, env_text, resolve

DEFAULTS: dict[str, Any] = {
    "base_url": None,
    "concurrency": 20,
    "max_retries": 3,
    "poll_interval_ms": 100,
    "lock_duration_ms": 30_000,
    "max_deliveries": 48,
    "shutdown_timeout_ms": 30_000,
    "recovery_interval_ms": 60_000,
    "recovery_grace_ms": 30_000,
    "recover_active_runs": True,
    "serialize_runs": True,
    "fail_exhausted_runs": True,
    "completed_retention_s": 3_600,
    "failed_retention_s": 604_800,
    "delivery": "auto",
    "http_timeout_s": None,
    "content_type": "application/json",
    "deployment_id": None,
    "environment": None,
    "owner_id": "default",
    "project_id": "default",
    "queue_namespace": None,
    "max_delay_s": 82_800,
    "idempotency_ttl_ms": 5_000,
    "run_key": None,
    "debug": None,
}

VARIABLES: dict[str, tuple[str, Any, Any]] = {
    "concurrency": ("WORKFLOW_CONCURRENCY", 7, 8),
    "max_retries": ("WORKFLOW_MAX_RETRIES", 7, 8),
    "poll_interval_ms": ("WORKFLOW_POLL_INTERVAL_MS", 7, 8),
    "lock_duration_ms": ("WORKFLOW_LOCK_DURATION_MS", 700, 800),
    "recover_active_runs": ("WORKFLOW_RECOVER_ACTIVE_RUNS", False, True),
    "deployment_id": ("WORKFLOW_DEPLOYMENT_ID", "seven", "eight"),
    "environment": ("WORKFLOW_ENVIRONMENT", "seven", "eight"),
    "queue_namespace": ("WORKFLOW_QUEUE_NAMESPACE", "seven", "eight"),
    "debug": ("WORKFLOW_DEBUG", "seven", "eight"),
}
"""Option -> its variable, a value for the variable, and one for the argument."""


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_warned", set())


def settings_of(environ: Mapping[str, str] | None = None, **options: Any) -> Settings:
    found, unknown = resolve(options, environ or {})
    assert unknown == {}
    return found


def test_defaults() -> None:
    found = settings_of()
    assert {spec.name: getattr(found, spec.name) for spec in fields(found)} == DEFAULTS
    assert settings_of(**dict.fromkeys(DEFAULTS)) == found


def test_every_variable_is_listed_here() -> None:
    declared = {spec.name for spec in fields(Settings) if spec.metadata.get("env")}
    assert declared == set(VARIABLES)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_option_before_environment_before_default(name: str) -> None:
    """B184."""
    variable, from_environment, argument = VARIABLES[name]
    environ = {variable: str(from_environment)}
    assert getattr(settings_of(environ), name) == from_environment
    assert getattr(settings_of(environ, **{name: argument}), name) == argument
    assert getattr(settings_of(environ, **{name: None}), name) == from_environment
    assert getattr(settings_of({variable: ""}), name) == DEFAULTS[name]
    assert getattr(settings_of({variable.lower(): "7"}), name) == DEFAULTS[name]


def test_the_second_variable_of_the_deployment() -> None:
    both = {"WORKFLOW_DEPLOYMENT_ID": "first", "DEPLOYMENT_ID": "second"}
    assert settings_of(both).deployment_id == "first"
    assert settings_of({**both, "WORKFLOW_DEPLOYMENT_ID": ""}).deployment_id == "second"


@pytest.mark.parametrize("raw", ["many", "1O", "0x10", "nan", "1,5", "--"])
def test_an_unreadable_number_warns_once(raw: str, caplog: pytest.LogCaptureFixture) -> None:
    """B185."""
    with caplog.at_level(logging.WARNING, "workflow_world"):
        for _ in range(3):
            assert settings_of({"WORKFLOW_CONCURRENCY": raw}).concurrency == 20
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WORKFLOW_CONCURRENCY" in caplog.text


def test_an_unreadable_switch_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "workflow_world"):
        for _ in range(3):
            assert settings_of({"WORKFLOW_RECOVER_ACTIVE_RUNS": "perhaps"}).recover_active_runs
        settings_of({"WORKFLOW_CONCURRENCY": "many"})
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("raw", "value"), [("0", 1), ("-5", 1), ("99999999", 10_000), ("inf", 10_000), (" 12 ", 12)]
)
def test_numbers_in_the_environment_are_clamped(raw: str, value: int) -> None:
    found = settings_of({"WORKFLOW_CONCURRENCY": raw}).concurrency
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize(
    ("raw", "value"),
    [("1", True), ("TRUE", True), ("Yes", True), ("on", True), ("0", False), ("oFF", False)],
)
def test_switches(raw: str, value: bool) -> None:
    assert env_switch("X", {"X": raw}) is value
    assert settings_of({"WORKFLOW_RECOVER_ACTIVE_RUNS": raw}).recover_active_runs is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", "20"),
        ("concurrency", True),
        ("concurrency", math.nan),
        ("max_retries", 0),
        ("poll_interval_ms", -1),
        ("http_timeout_s", 0),
        ("max_delay_s", -1),
        ("failed_retention_s", math.inf),
        ("completed_retention_s", 1e11),
        ("idempotency_ttl_ms", 1e300),
        ("recovery_interval_ms", 10**400),
        ("serialize_runs", "yes"),
        ("recover_active_runs", 1),
        ("delivery", "pigeon"),
        ("content_type", "text/plain"),
        ("owner_id", ""),
        ("project_id", 5),
        ("base_url", b"http://x"),
        ("run_key", b"key"),
        ("queue_namespace", "Not-Good"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(name: str, value: object) -> None:
    """Spec 6.1: nonsense in the program is a ValueError, never a silent default."""
    with pytest.raises(ValueError, match=name if name != "queue_namespace" else "queue name"):
        resolve({name: value}, {})


def test_seconds_may_have_a_fraction() -> None:
    found, _ = resolve({"max_delay_s": 0.5, "completed_retention_s": 0.25}, {})
    assert (found.max_delay_s, found.completed_retention_s) == (0.5, 0.25)


def test_unknown_options_are_handed_on_and_refused_by_the_backend() -> None:
    found, rest = resolve({"concurrency": 5, "colour": "red", "taste": None}, {})
    assert found.concurrency == 5
    assert rest == {"colour": "red"}
    with pytest.raises(TypeError, match="colour"):
        create_world("memory:", colour="red")


def test_the_environment_is_read_when_the_world_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORKFLOW_CONCURRENCY", "3")
    world = create_world("memory:")
    monkeypatch.setitem(os.environ, "WORKFLOW_CONCURRENCY", "4")
    assert world.settings.concurrency == 3


def test_texts() -> None:
    assert env_text(("A", "B"), {"A": "", "B": "b"}) == "b"
    assert env_text(("A", "B"), {}) is None


def test_keys_are_not_shown() -> None:
    """B196."""
    assert "run_key" not in repr(settings_of(run_key=lambda run_id, deployment_id: b"secret"))
