"""What the servers' processes share: a free port, and an end that always comes."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """A test run that is killed leaves no server behind (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: subprocess.Popen[Any], how: signal.Signals, timeout: float) -> None:
    """Send the signal; kill what does not end within ``timeout`` seconds."""
    process.send_signal(how)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
