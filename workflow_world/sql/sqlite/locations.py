"""Database URLs of SQLite: which file they name, and what is wrong with those that name none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ...errors import BackendError, ConfigurationError
from ...ids import new_ulid
from ...registry import redact

_MAGIC: Final = b"SQLite format 3\0"
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a SQLite database is. ``path`` None: in memory, under a name of its own.

    ``connect`` is what the driver is given, always as a URI.
    """

    path: Path | None
    connect: str

    @property
    def label(self) -> str:
        return ":memory:" if self.path is None else str(self.path)


def locate(url: str) -> Location:
    """``file:relative.db``, ``file:/absolute.db``, ``sqlite:///relative.db``, ``:memory:``.

    Raises: ConfigurationError for anything else.
    """
    if url in (":memory:", "sqlite://", "sqlite:///:memory:", "file::memory:", "sqlite:"):
        # The memdb VFS works across threads as long as one connection stays open.
        return Location(path=None, connect=f"file:/{new_ulid()}?vfs=memdb")
    rest, mark, _ = url.partition("?")
    if mark:
        raise ConfigurationError(
            f"{redact(url)}: a SQLite URL takes no ?parameters; pass options to create_world"
        )
    text = unquote(_path_of(rest))
    if not text or "\0" in text:
        raise ConfigurationError(
            f"{redact(url)!r} names no file: write file:workflow.db or file:/absolute/path.db"
        )
    try:
        path = Path(text).expanduser().absolute()
        os.fsencode(path)
    except (RuntimeError, UnicodeEncodeError):
        raise ConfigurationError(
            f"{redact(url)!a} names no file: there is no such home directory, or a lone surrogate"
        ) from None
    return Location(path=path, connect=_uri(path))


def prepare(path: Path, *, create: bool) -> None:
    """Check a database file before SQLite touches it; a new one is made private (0600).

    Raises: BackendError that names the file and what is wrong; nothing was altered.
    """
    try:
        if path.is_dir():
            raise BackendError(f"{path} is a directory: the URL must name a database file")
        if not path.parent.is_dir():
            raise BackendError(f"{path.parent} does not exist: create it, or name another file")
        if not path.exists():
            if not create:
                raise BackendError(
                    f"{path} does not exist, and is not made here (auto_migrate is off): check the "
                    "path, or make it with 'workflow-world db upgrade' and the same --url"
                )
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, _MODE))
            return
        if not path.is_file():
            raise BackendError(f"{path} is a device or a pipe: the URL must name a database file")
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise BackendError(f"{path} cannot be opened: {error.strerror}") from error
    if head and head != _MAGIC:
        raise BackendError(f"{path} is not a SQLite database: it was left as it is")


def identity(path: Path | None) -> tuple[int, int] | None:
    """Which file is there now, whatever its name; None: none."""
    try:
        found = os.stat(path or "")
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _path_of(text: str) -> str:
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "file":
        return rest[2:] if rest.startswith("//") else rest
    if rest.startswith("///"):
        return rest[3:]  # SQLAlchemy: three slashes are relative, four absolute
    return "" if rest.startswith("//") else rest


def _uri(path: Path) -> str:
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return "file:/" + quoted.lstrip("/")  # two slashes would name a host
