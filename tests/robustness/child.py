"""Many processes on one database: ``child.py COMMAND URL …``.

This process imports everything once and forks those that do the work. What they return comes back
as JSON; this process prints one line of it all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from ending import dying, parked, terminating
from holding import hard, skewed
from racing import claims, joining, races

COMMANDS: dict[str, Callable[..., Any]] = {
    "races": races,
    "claims": claims,
    "joining": joining,
    "dying": dying,
    "terminating": terminating,
    "parked": parked,
    "skewed": skewed,
    "hard": hard,
}


if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])), flush=True)  # noqa: T201
