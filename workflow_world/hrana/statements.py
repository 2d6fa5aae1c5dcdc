"""SQL text as far as a driver must read it: its first word, and its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from .errors import InterfaceError, ProgrammingError
from .values import Json, encode

Kind: TypeAlias = Literal[
    "begin", "commit", "rollback", "savepoint", "read", "write", "schema", "other"
]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]

_TOKEN: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)      # comments
      | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]
      | (?P<name>[:@$]\w[\w$]*)
      | (?P<mark>\?\d*)
      | (?P<word>[^\W\d][\w$]*)""",
    re.VERBOSE | re.DOTALL,
)
_KINDS: Final[dict[str, Kind]] = {
    "BEGIN": "begin",
    "COMMIT": "commit",
    "END": "commit",
    "ROLLBACK": "rollback",
    "SAVEPOINT": "savepoint",
    "RELEASE": "savepoint",
    "SELECT": "read",
    "VALUES": "read",
    "EXPLAIN": "read",
    "INSERT": "write",
    "REPLACE": "write",
    "UPDATE": "write",
    "DELETE": "write",
    "CREATE": "schema",
    "ALTER": "schema",
    "DROP": "schema",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """``counts`` says that the number of affected rows means something (PEP 249: else -1);
    None: only if there are some, as with WITH, which may begin either.
    """

    sql: str
    kind: Kind
    counts: bool | None
    names: tuple[str, ...]
    has_marks: bool

    def bind(self, parameters: Parameters, *, want_rows: bool = True) -> Json:
        """Hrana's ``Stmt``. Raises: DataError, InterfaceError, ProgrammingError; all before
        anything is sent."""
        stmt: Json = {"sql": self.sql}
        given: object = parameters
        if isinstance(parameters, Mapping):
            if self.names:
                stmt["named_args"] = [
                    {"name": name, "value": encode(_named(parameters, name))} for name in self.names
                ]
            if self.has_marks:
                raise ProgrammingError("Parameters by name were given to a statement with ?")
        elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
            if self.names:
                raise ProgrammingError(
                    "Parameters by position were given to a statement that names them"
                )
            if parameters:
                stmt["args"] = [encode(value) for value in parameters]
        else:
            raise InterfaceError("Parameters must be a sequence or a mapping")
        if not want_rows:
            stmt["want_rows"] = False
        return stmt


def _named(parameters: Mapping[str, Any], name: str) -> object:
    try:
        return parameters[name[1:]]
    except KeyError:
        raise ProgrammingError(f"No value was given for the parameter {name}") from None


@lru_cache(maxsize=512)
def parse(sql: str) -> Statement:
    """Raises: ProgrammingError for an empty text. All other mistakes are the server's to find."""
    if "\0" in sql:
        raise ProgrammingError("The SQL text has a NUL character")
    words: list[str] = []
    names: dict[str, None] = {}
    marks = False
    for token in _TOKEN.finditer(sql):
        found = token.lastgroup
        if found == "word" and len(words) < 4:
            words.append(token[0].upper())
        elif found == "name":
            names[token[0]] = None
        elif found == "mark":
            marks = True
    if not words:
        raise ProgrammingError("The SQL text holds no statement")
    kind: Kind = _KINDS.get(words[0], "other")
    if kind == "rollback" and "TO" in words:
        kind = "savepoint"
    counts = None if words[0] == "WITH" else kind == "write"
    return Statement(sql, kind, counts, tuple(names), marks)
