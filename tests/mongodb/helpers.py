"""What the tests on MongoDB share: a look behind the package's back, and processes of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from postgres.helpers import PATIENCE_S, QUEUE, create_run, event, eventually, log_of
from postgres.proxy import Proxy
from pymongo.uri_parser import parse_uri
from servers import mongodb
from servers.children import ChildProcess

from workflow_world import World
from workflow_world.mongodb.database import Database

__all__ = ["PATIENCE_S", "QUEUE", "create_run", "event", "eventually", "log_of"]

CHILD: Final = Path(__file__).with_name("child.py")

COMMIT: Final = b"$push\0"
"""In the request that makes an entry of the journal, and in no other."""
APPLIED: Final = b"\x04changes\0\x05\0\0\0\0\x10parts\0"
"""In the request that marks a small entry as applied, and in no other."""


def applying(collection: str) -> bytes:
    """In the request that applies an entry to the collection, and in no other."""
    name = collection.encode()
    return b"update\0" + (len(name) + 1).to_bytes(4, "little") + name + b"\0"


class Child(ChildProcess):
    """A process of its own that runs a command of ``child.py``; killed at the end."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(CHILD, *arguments)

    def dies(self) -> None:
        """It ends by SIGKILL."""
        _, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == -9, err

    def end(self) -> list[str]:
        """Wait for a good end. Returns: the rest of what it printed."""
        out, err = self.finish(timeout=PATIENCE_S)
        assert not err, err
        return out.splitlines()


class Stored:
    """A test's database."""

    def __init__(self, server: mongodb.Server, url: str) -> None:
        self._server, self.name = server, str(parse_uri(url)["database"])

    def __getitem__(self, collection: str) -> Any:
        return self._server.collection(self.name, collection)

    @property
    def journal(self) -> dict[str, Any]:
        return dict(self["meta"].find_one({"_id": "journal"}))

    @property
    def parts(self) -> int:
        return int(self["meta"].count_documents({"part_of": {"$exists": True}}))

    def alive(self, collection: str) -> list[dict[str, Any]]:
        return list(self[collection].find({"gone_at": {"$exists": False}}).sort([("_id", 1)]))

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        names = ("runs", "steps", "events", "hooks", "queue_messages", "stream_chunks")
        return {name: list(self[name].find({}).sort([("_id", 1)])) for name in names}


def port_of(address: str) -> int:
    return int(parse_uri(address)["nodelist"][0][1] or 27017)


def through(proxy: Proxy, url: str) -> str:
    """The same database, by the proxy."""
    return re.sub(r"@?[\w.]+:\d+/", f"127.0.0.1:{proxy.port}/", url, count=1)


def database_of(world: World) -> Database:
    found: Any = world.backend
    database = found.database
    assert isinstance(database, Database)
    return database
