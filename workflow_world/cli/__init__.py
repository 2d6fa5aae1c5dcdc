"""The command ``workflow-world``. Needs the extra ``cli`` (Click and rich)."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 it failed, 2 it was called wrongly, 130 Ctrl-C while
    it was being loaded."""
    try:
        from .app import app
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"click", "rich"}:
            raise
        sys.stderr.write(
            f"error: the command line needs {missing}: pip install 'workflow-world[cli]'\n"
        )
        sys.exit(1)
    app(prog_name="workflow-world")
    sys.exit(0)
