"""Migrations that end early: each line of input is ``NUMBER URL``, and the process that upgrades
the database dies before its statement or commit of that number.

Answers ``died``, or ``done COUNT`` when there were only so many.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

import alembic.command
from sqlalchemy import event
from sqlalchemy.engine import Engine

from workflow_world.sql import migrate


def upgrade(url: str, number: int) -> None:
    count = 0

    def one_more(*about: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", one_more)
    event.listen(Engine, "commit", one_more)
    migrate.upgrade(url, environ={})
    os.write(1, f"done {count}\n".encode())


def main() -> None:
    assert alembic.command.upgrade  # what is slow to import, once
    for line in sys.stdin:
        number, url = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                upgrade(url, int(number))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == -signal.SIGKILL:
            os.write(1, b"died\n")
        elif code:
            os.write(1, b"failed\n")


if __name__ == "__main__":
    main()
