"""``nox -s lint types tests servers migrations demo bench``: what CI checks, and benchmarks."""

import argparse
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "servers", "migrations", "demo"]
nox.options.reuse_existing_virtualenvs = True


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """What runs in memory and on SQLite; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-m", "not servers", *session.posargs)


@nox.session
def servers(session: nox.Session) -> None:
    """The rest of the suite: the same and more on libSQL servers and on Postgres."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-m", "servers", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy and pyright, both strict, on the package."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    # Otherwise it looks for the dependencies wherever the first Python on PATH has them.
    session.run("pyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def demo(session: nox.Session) -> None:
    """The demo: exits with 1 when a promise does not hold."""
    session.install("-e", ".[demo]")
    session.run("workflow-world", "demo", *session.posargs)


@nox.session
def migrations(session: nox.Session) -> None:
    """From nothing to the newest revision; then the models must ask for no other one."""
    session.install("-e", ".[test]")
    with tempfile.TemporaryDirectory() as directory:
        env = {"WORKFLOW_DATABASE_URL": f"file:{Path(directory) / 'workflow.db'}"}
        session.run("alembic", "upgrade", "head", env=env)
        session.run("alembic", "check", env=env)
        session.run("workflow-world", "db", "check", env=env)
    session.run("python", "-m", "pytest", "tests/migrations", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """What ``tests`` does in short, at length: ``-- --kills N --steps N …`` say how long."""
    parser = argparse.ArgumentParser(prog="nox -s chaos --")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the simulation")
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--outages", type=int, default=180, help="seconds")
    parser.add_argument("--commits", type=int, default=1000, help="lost, on each server")
    parser.add_argument("--crowd", type=int, default=60, help="seconds")
    parser.add_argument("--rounds", type=int, default=100, help="of zombies and of first starts")
    wanted = parser.parse_args(session.posargs)
    session.install("-e", ".[test]", "pytest-repeat")
    env = {
        "CHAOS_KILLS": str(wanted.kills),
        "CHAOS_COPIES": str(wanted.copies),
        "SIMULATION_STEPS": str(wanted.steps),
        "CHAOS_OPERATIONS": str(wanted.operations),
        "CHAOS_OUTAGES_S": str(wanted.outages),
        "CHAOS_COMMITS": str(wanted.commits),
        "CHAOS_CROWD_S": str(wanted.crowd),
        "CHAOS_LONG": "1",
        "CHAOS_POINTS": "all",
        "CHAOS_POOLER": "all",
        "HYPOTHESIS_PROFILE": "long",
        "WORKFLOW_TEST_LIBSQL": "all",
    }
    timeout = 3600 + 8 * wanted.kills + wanted.copies + wanted.steps // 500
    where = (
        "tests/chaos",
        "tests/conformance/test_libsql_auth.py",
        "tests/conformance/test_libsql_replica.py",
        "tests/differential",
        "tests/e2e/test_kill.py",
        "tests/e2e/test_outages.py",
        "tests/migrations/test_killed.py",
        "tests/model",
        "tests/postgres/test_pooler.py",
        "tests/robustness",
        "tests/simulation",
    )
    session.run("python", "-m", "pytest", f"--timeout={timeout}", "-s", "-n", "0", *where, env=env)
    again = (
        "tests/chaos/test_zombie.py",
        "tests/libsql/test_opening.py",
        "tests/postgres/test_schema.py",
        "tests/sql/test_opening.py",
    )
    rounds = (f"--count={wanted.rounds}", "-k", "stopped_worker or eight_processes")
    session.run("python", "-m", "pytest", "-n", "0", *rounds, *again)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; arguments choose workloads."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)
