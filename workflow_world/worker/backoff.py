"""How long a worker waits before it asks a database again that refused."""

from __future__ import annotations

from typing import Final

_FIRST_S: Final = 0.1
_MAX_S: Final = 5.0


def backoff_s(failures: int) -> float:
    """Seconds, after so many failures before this one."""
    return min(_FIRST_S * float(2 ** min(failures, 10)), _MAX_S)
