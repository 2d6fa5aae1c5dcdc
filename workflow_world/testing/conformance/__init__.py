"""The conformance suite: what every backend must do, one test per line of the specification.

A backend's own test module needs ten lines::

    import pytest
    from workflow_world.testing.conformance.fixtures import *
    from workflow_world.testing.conformance.suite import *

    @pytest.fixture
    def open_handle(tmp_path):
        return lambda clock: MyBackend(tmp_path / "database", clock=clock)

Every call of ``open_handle`` gives one more independent handle on the same, at first empty,
database. Tests ask ``backend.capabilities`` for what they need, never for a name.
"""

import pkgutil

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
)
