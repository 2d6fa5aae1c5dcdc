"""``attach``: hand a World to the SDK, and keep it out of the SDK's sandbox."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

from vercel.workflow._internal import core, py_sandbox
from vercel.workflow._internal import world as w

from ..errors import ConfigurationError
from ..world import World
from .world import SdkWorld

_PACKAGE = "workflow_world"
logger = logging.getLogger("workflow_world.vercel")


def attach(make: Callable[[], World]) -> World:
    """Make a World and have the SDK use it; ``install`` is this with ``create_world``.

    The SDK asks for its World when a ``Workflows`` builds its handler, so this comes first. A
    World that the SDK has, but has built no handler on, is replaced (and left for its owner to
    close).

    **In the sandbox.** To replay a run, the SDK imports the workflow's module again, into a module
    table of its own, where modules that do I/O are cut down; only listed packages are shared with
    the host. A module that calls ``install`` at its top calls it again there. Therefore this puts
    ``workflow_world`` on that list, so that importing it again costs a look-up, and a call inside
    the sandbox makes nothing: it returns the World attached outside.

    Returns: the World, not started.
    Raises: ConfigurationError when handlers exist already on another World, or when called in the
        sandbox before any call outside; and what ``make`` raises.
    """
    current = w.the_world
    if py_sandbox.in_sandbox():
        if isinstance(current, SdkWorld):
            return current.world
        raise ConfigurationError(
            "install() ran inside a workflow, and no World is installed outside it: call it "
            "where the workflow's module is imported first"
        )
    if (isinstance(current, SdkWorld) and current.has_handlers) or _handlers_exist():
        raise ConfigurationError(
            f"The Workflow SDK has already built its handlers on a {type(current).__name__}: "
            "call install() once, before the first Workflows() is created"
        )
    world = make()
    if isinstance(current, SdkWorld) and not (current.gives_way or current.world.is_closed):
        logger.warning(
            "install() was called again: the SDK uses %r from now on, and a worker of the World "
            "before it delivers nothing. Install one World per process, or close the first",
            world,
        )
    w.set_world(SdkWorld(world))
    py_sandbox._PASSTHROUGHS.add(_PACKAGE)  # pyright: ignore[reportPrivateUsage]
    return world


def attached() -> World | None:
    """The World that the SDK uses now, when it is one of ours."""
    current = w.the_world
    return current.world if isinstance(current, SdkWorld) else None


def give_way() -> None:
    """Let an application's own World take the place of the one that the SDK uses now."""
    current = w.the_world
    if isinstance(current, SdkWorld):
        current.gives_way = True


def _handlers_exist() -> bool:
    """Whether a ``Workflows`` that serves its queue is alive: its handler is bound to the World
    of that moment.

    The SDK keeps no list of them and a World need not tell, so the garbage collector is asked. A
    dead one may still lie in a cycle with its workflows, hence the second look.
    """
    if not _serving():
        return False
    gc.collect()
    return _serving()


def _serving() -> bool:
    # By type(), not isinstance(): a look at __class__ would wake lazy proxies.
    return any(
        issubclass(type(found), core.Workflows) and found._http_handler is not None  # pyright: ignore[reportPrivateUsage]
        for found in gc.get_objects()
    )
