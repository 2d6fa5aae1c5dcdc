"""The adapter for the Workflow SDK (``vercel-workflow``), and the only importer of it.

``workflow_world.install`` is the way in. ``SdkWorld(world)`` alone is for tests and tools that
call a World by the SDK's names.
"""

from . import supported as supported  # first: it refuses an SDK that nobody tried
from .install import attach, attached
from .world import SdkWorld

__all__ = ["SdkWorld", "attach", "attached"]
