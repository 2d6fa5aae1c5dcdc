"""Refuses an SDK outside the tested versions. Import this before anything of the SDK.

The adapter builds on names that the SDK does not promise to keep, so a version that nobody tried
is refused by name here, instead of failing somewhere inside a run.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import ConfigurationError

SUPPORTED: Final = ">=0.12,<0.13"
_TESTED_SERIES: Final = ((0, 12),)


def installed_version() -> str:
    """The SDK's version, or ``unknown`` for one too old to tell."""
    try:
        from vercel.workflow.version import __version__
    except ImportError:
        return "unknown"
    return __version__


def check_sdk() -> None:
    """Raises: ConfigurationError with the version found, the ones tested and what to install."""
    found = installed_version()
    match = re.match(r"(\d+)\.(\d+)", found)
    if match is None or (int(match[1]), int(match[2])) not in _TESTED_SERIES:
        raise ConfigurationError(
            f"vercel-workflow {found} is installed, and this version of workflow-world is tested "
            f"with {SUPPORTED}: pip install 'vercel-workflow{SUPPORTED}'"
        )


check_sdk()
