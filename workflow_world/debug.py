"""``WORKFLOW_DEBUG``: our loggers to stderr. Importing the package configures nothing."""

from __future__ import annotations

import logging
from typing import Final

ROOT: Final = "workflow_world"
_EVERYTHING: Final = frozenset({"1", "true", "*", "yes", "on"})
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def enable_debug_logging(value: str) -> None:
    """Log to stderr: everything for ``1``, ``true`` or ``*``, else the named loggers.

    Names are separated by commas, with or without the leading ``workflow_world.``.
    """
    if value.strip().lower() in {"", "0", "false", "no", "off"}:
        return
    names = [name.strip() for name in value.split(",") if name.strip()]
    if any(name.lower() in _EVERYTHING for name in names):
        names = [ROOT]
    for name in names:
        full = name if name.startswith(ROOT) else f"{ROOT}.{name}"
        logger = logging.getLogger(full)
        logger.setLevel(logging.DEBUG)
        if not any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers):
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(_FORMAT))
            logger.addHandler(handler)
