"""``workflow-world demo``: a worker is killed in the middle of a workflow; the next carries on.

``flow`` is the workflow, ``story`` plays it, ``record`` reads what happened, ``checks`` judges it.
"""

from .story import run_demo

__all__ = ["run_demo"]
