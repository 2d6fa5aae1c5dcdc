"""Where HTTP callbacks go."""

from __future__ import annotations

import os
from typing import Final

from ..settings import Settings

_SERVICE_URL: Final = "WORKFLOW_SERVICE_URL"


def configured_url(settings: Settings) -> str | None:
    """Where callbacks go, if somebody said so."""
    return settings.base_url or os.environ.get(_SERVICE_URL) or None


def base_url(settings: Settings) -> str:
    """Where callbacks go: option, ``WORKFLOW_SERVICE_URL``, ``http://localhost:{PORT or 3000}``."""
    url = configured_url(settings)
    return (url or f"http://localhost:{os.environ.get('PORT') or 3000}").rstrip("/")
