"""What the servers' processes share: a free port, and an end that always comes."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_PORTS: Final = 2_000


def _ports() -> itertools.cycle[int]:
    """Ports of this worker of the test run alone, below those that the system gives to whoever
    connects: a server that is started again finds its port free, and nobody else listening."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    first, start = 10_000 + number * _PORTS, random.SystemRandom().randrange(_PORTS)
    return itertools.cycle(first + (start + step) % _PORTS for step in range(_PORTS))


_next_port = _ports()


def free_port() -> int:
    for port in itertools.islice(_next_port, _PORTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # A server may listen where a connection of an earlier one is not forgotten yet.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


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
