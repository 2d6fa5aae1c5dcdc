"""The examples, each as a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
GREETINGS = ["Hello, Ada!", "Guten Tag, Ada!", "Bonjour, Ada!"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}


def test_script(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "script.py", "Ada"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == GREETINGS
    assert done.stderr == ""
    assert (tmp_path / "workflow.db").exists()


def test_script_carries_on_what_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "script.py"]
    with subprocess.Popen([*command, "Ada"], cwd=tmp_path, env=environment()) as killed:
        wait_until(lambda: waits_exist(tmp_path / "workflow.db"))
        killed.kill()
    done = subprocess.run(
        [*command, "Grace"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path / "workflow.db") == ["completed", "completed"]


def test_starlette_app(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "starlette_app:app", "--port", str(port)]
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [*command, "--app-dir", EXAMPLES],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            wait_until(lambda: answers(f"{base}/.well-known/workflow/v1/flow?__health"))
            run_id = call("POST", f"{base}/greetings/Ada")["run_id"]
            wait_until(lambda: call("GET", f"{base}/runs/{run_id}")["status"] == "completed")
            assert call("GET", f"{base}/runs/{run_id}")["result"] == GREETINGS
            assert call("GET", f"{base}/runs/wrun_none") == {"error": "no such run"}
        finally:
            server.send_signal(signal.SIGTERM)
            _, stderr = server.communicate(timeout=30)
    assert "Application shutdown complete" in stderr
    assert "Traceback" not in stderr


def call(method: str, url: str) -> Any:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def answers(url: str) -> bool:
    try:
        return bool(call("GET", url)["healthy"])
    except OSError:
        return False


def query(path: Path, statement: str) -> list[str]:
    if not path.exists():
        return []
    connection = sqlite3.connect(path, timeout=10)
    try:
        return [row[0] for row in connection.execute(statement)]
    except sqlite3.OperationalError:  # the tables are not there yet
        return []
    finally:
        connection.close()


def waits_exist(path: Path) -> bool:
    return bool(query(path, "SELECT 1 FROM workflow_events WHERE event_type = 'wait_created'"))


def statuses(path: Path) -> list[str]:
    return query(path, "SELECT status FROM workflow_runs")


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 60 s"
        time.sleep(0.05)
