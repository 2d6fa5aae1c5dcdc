"""The demo's worker: a real process that runs ``workflow-world worker``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

_STOP_S: Final = 10.0


class WorkerProcess:
    """One ``workflow-world worker`` in its own process; its output goes to ``worker.log``."""

    def __init__(self, directory: Path, url: str, module: str) -> None:
        self.log = directory / "worker.log"
        self._output: IO[bytes] = self.log.open("ab")
        command = [sys.executable, "-m", "workflow_world", "worker", module, "--url", url]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            cwd=directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives; negative: the signal that killed it."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: no goodbye, no clean-up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as a service manager does. Returns: the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        try:
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                return self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                return self._process.wait()
        finally:
            self._output.close()
