"""Processes of a test's own: scripts that say lines, and wait to be told to go."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class ChildProcess:
    """A script in a process of its own; whoever starts it kills it at the end."""

    def __init__(self, script: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def line(self) -> str:
        """The next line that it prints; waits for it."""
        assert self.process.stdout is not None
        found = self.process.stdout.readline().strip()
        if not found:
            raise AssertionError(f"the process ended early: {self.process.communicate()[1]}")
        return found

    def go(self) -> None:
        """Let it pass its ``ready``."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self, *, timeout: float, code: int = 0) -> tuple[str, str]:
        """Wait for its end. Returns: the rest of what it printed, and its errors."""
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == code, err
        return out, err

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more when this returns."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it died with a line unread
                    pipe.close()
