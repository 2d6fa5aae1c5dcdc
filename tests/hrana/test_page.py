"""``docs/hrana.md``: its examples run as they stand there, and it names every argument."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from servers.sqld import Signer, Sqld

from workflow_world import hrana

PAGE = (Path(__file__).parents[2] / "docs" / "hrana.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_examples_run(tmp_path: Path) -> None:
    signer, names = Signer(), dict[str, object]()
    with Sqld(tmp_path / "server", key=signer.key) as server:
        names["TOKEN"] = signer.token()
        for block in BLOCKS:
            exec(block.replace("libsql://HOST", server.url), names)  # noqa: S102  # our own page


def test_every_argument_is_in_the_table() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert named == [*inspect.signature(hrana.connect).parameters]
