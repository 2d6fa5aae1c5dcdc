"""``install``: when it is refused, and what it does inside the SDK's sandbox.

The SDK's state is one per process, so each script here gets a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PREAMBLE = """
import workflow_world
from workflow_world import ConfigurationError, World, install

def refused(phrase, url="memory:"):
    from vercel.workflow._internal import world as w
    before = w.the_world
    try:
        install(url)
    except ConfigurationError as error:
        assert phrase in str(error), str(error)
        assert w.the_world is before
    else:
        raise AssertionError("install() was not refused")
"""


def run(script: str, cwd: Path) -> None:
    ran = subprocess.run(  # our own script
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(script)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]


SCRIPTS = {
    "the SDK gets our World": """
        from vercel.workflow._internal import world as w
        from workflow_world.vercel import SdkWorld
        world = install("memory:", deployment_id="d")
        assert isinstance(world, World)
        assert isinstance(w.get_world(), SdkWorld)
        assert w.get_world().world is world
        from vercel.workflow import Workflows
        assert callable(Workflows().http_handler)
        assert w.get_world().has_handlers
    """,
    "a second World is announced, unless the first is closed": """
        import asyncio, logging
        said = []
        handler = logging.Handler()
        handler.emit = said.append
        logging.getLogger("workflow_world.vercel").addHandler(handler)
        asyncio.run(install("memory:").close())
        install("memory:")
        assert not said
        install("memory:")
        assert "memory" in said[0].getMessage() and "again" in said[0].getMessage()
    """,
    "a missing SDK is named with the extra": """
        import sys
        sys.modules["vercel"] = None
        try:
            install("memory:")
        except ConfigurationError as error:
            assert "workflow-world[sdk]" in str(error), error
        else:
            raise AssertionError
    """,
    "an SDK outside the tested versions is refused": """
        import vercel.workflow.version as version
        version.__version__ = "0.13.0"
        try:
            install("memory:")
        except ConfigurationError as error:
            assert "0.13.0" in str(error) and "vercel-workflow>=0.12,<0.13" in str(error), error
        else:
            raise AssertionError
        # Nothing of the SDK's inside was touched, and a later call says it again.
        import sys
        assert "workflow_world.vercel.world" not in sys.modules
        version.__version__ = "0.11.9"
        try:
            install("memory:")
        except ConfigurationError as error:
            assert "0.11.9" in str(error)
        else:
            raise AssertionError
        version.__version__ = "0.12.7rc1"
        install("memory:")
    """,
    "handlers on the SDK's own World are in the way": """
        from vercel.workflow import Workflows
        from vercel.workflow._internal import world as w
        workflows = Workflows()
        refused("LocalWorld")
        refused("before the first Workflows()")
        # Taking that World away does not take the handlers away.
        w.set_world(None)
        refused("before the first Workflows()")
    """,
    "a World of the SDK without handlers is replaced": """
        from vercel.workflow import Workflows
        from vercel.workflow._internal import world as w
        w.get_world()
        unserved = Workflows(as_vercel_job=False)
        install("memory:")
        Workflows()
        assert w.get_world().has_handlers
    """,
    "a Workflows that is gone is not in the way": """
        from vercel.workflow import Workflows
        from vercel.workflow._internal import world as w
        workflows = Workflows()
        @workflows.step
        async def step(): ...
        del workflows, step
        w.set_world(None)
        install("memory:")
    """,
    "installing again replaces a World without handlers only": """
        from vercel.workflow import Workflows
        from vercel.workflow._internal import world as w
        first = install("memory://one")
        second = install("memory://two")
        assert w.get_world().world is second is not first
        workflows = Workflows()
        refused("SdkWorld")
        assert w.get_world().world is second
        del workflows
        refused("SdkWorld")
    """,
    "a URL or option that cannot work changes nothing": """
        from vercel.workflow._internal import world as w
        refused("scheme", url="nonsense")
        try:
            install("memory:", no_such_option=1)
        except TypeError:
            assert w.the_world is None
        else:
            raise AssertionError
    """,
    "in the sandbox the package is the one outside, at the price of a look-up": """
        import sys
        from vercel.workflow._internal import py_sandbox
        world = install("memory:")
        before = {name for name in sys.modules if name.startswith("workflow_world")}
        for _ in range(2):
            sandbox = py_sandbox.Sandbox()
            with sandbox.enter():
                import workflow_world as inner
                import workflow_world.vercel.models as models
                from workflow_world import create_world
                again = inner.install("memory://other", concurrency=7)
                apart = create_world("memory://apart")
            assert inner is workflow_world
            assert again is world
            assert isinstance(apart, World)
            assert models is sys.modules["workflow_world.vercel.models"]
            assert "sqlalchemy" not in sandbox.table and "sqlite3" not in sandbox.table
        assert before <= {name for name in sys.modules if name.startswith("workflow_world")}
        assert world.settings.concurrency != 7
    """,
    "a second Workflows() for the same queues is refused": """
        install("memory:")
        from vercel.workflow import Workflows
        first, named = Workflows(), Workflows(namespace="named")
        for namespace in (None, "named"):
            try:
                Workflows(namespace=namespace)
            except ConfigurationError as error:
                assert "share one" in str(error), str(error)
            else:
                raise AssertionError
        Workflows(as_vercel_job=False)
        Workflows(namespace="other")
    """,
    "in the sandbox nothing is made, not even to be refused": """
        from vercel.workflow._internal import py_sandbox, world as w
        from workflow_world.vercel import attach
        def make():
            raise AssertionError("made a World in the sandbox")
        with py_sandbox.Sandbox().enter():
            try:
                attach(make)
            except ConfigurationError as error:
                assert "inside a workflow" in str(error)
            else:
                raise AssertionError
        world = install("memory:")
        with py_sandbox.Sandbox().enter():
            assert attach(make) is world
        from vercel.workflow import Workflows
        workflows = Workflows()
        with py_sandbox.Sandbox().enter():
            assert attach(make) is world
    """,
    "the package stays importable outside after a sandbox saw it": """
        import importlib, inspect, pathlib
        from vercel.workflow._internal import py_sandbox
        install("memory:")
        with py_sandbox.Sandbox().enter():
            import workflow_world.errors
        import workflow_world.cli
        importlib.import_module("workflow_world.testing.clock")
        assert (pathlib.Path(workflow_world.__file__).parent / "py.typed").is_file()
        assert inspect.getsource(workflow_world.errors.WorldError)
    """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_install(script: str, tmp_path: Path) -> None:
    run(script, tmp_path)


def test_only_the_adapter_imports_the_sdk(tmp_path: Path) -> None:
    """Everything but ``install`` works without the SDK."""
    script = """
        import importlib, pathlib, sys
        sys.modules["vercel"] = None
        root = pathlib.Path(workflow_world.__file__).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if path.stem != "__main__" and parts[1] not in ("vercel", "demo", "testing"):
                importlib.import_module(".".join(parts).removesuffix(".__init__"))
    """
    run(script, tmp_path)
