"""The grammar of queue names (spec 4.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import InvalidQueueNameError
from .values import is_safe_id

_NAME: Final = re.compile(
    r"(?P<prefix>__(?:(?P<namespace>[a-z][a-z0-9]*)_)?wkf_(?P<kind>workflow|step)_)(?P<tail>.+)",
    re.DOTALL,
)
_PREFIX: Final = re.compile(r"__(?:[a-z][a-z0-9]*_)?wkf_(?:workflow|step)_.*", re.DOTALL)
_MAX_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueName:
    """A queue name taken apart. ``tail`` is the workflow's or step's name."""

    prefix: str
    namespace: str | None
    kind: Literal["workflow", "step"]
    tail: str

    @property
    def route(self) -> Literal["flow", "step"]:
        """The last part of the callback's path."""
        return "flow" if self.kind == "workflow" else "step"


def parse(name: str) -> QueueName:
    """Raises: InvalidQueueNameError when the name is outside the grammar."""
    match = _NAME.fullmatch(name) if is_safe_id(name, _MAX_LENGTH) else None
    if match is None:
        raise InvalidQueueNameError(
            f"Invalid queue name {name!r:.120}: expected __wkf_workflow_NAME, __wkf_step_NAME or "
            "the same with a namespace of lower-case letters and digits (__NS_wkf_workflow_NAME)"
        )
    kind: Literal["workflow", "step"] = "workflow" if match["kind"] == "workflow" else "step"
    return QueueName(
        prefix=match["prefix"], namespace=match["namespace"], kind=kind, tail=match["tail"]
    )


def check_prefix(prefix: str) -> str:
    """A handler's prefix: that of a kind of queue, or longer, down to one queue.

    Raises: InvalidQueueNameError when no queue name starts with it.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise InvalidQueueNameError(f"Invalid queue name prefix {prefix!r:.120}")
    return prefix


def workflow_queue(workflow_name: str, namespace: str | None) -> str:
    """The queue that wakes the runs of a workflow."""
    space = "" if namespace is None else f"{namespace}_"
    return f"__{space}wkf_workflow_{workflow_name}"


def is_workflow_name(name: str) -> bool:
    """Whether a queue can be named after a workflow with this name."""
    return bool(name) and is_safe_id(workflow_queue(name, None), _MAX_LENGTH)
