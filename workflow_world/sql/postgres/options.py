"""What a Postgres database can be opened with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias

from ...errors import ConfigurationError
from ..tables import checked_schema

ClaimStrategy: TypeAlias = Literal["skip_locked", "conditional_update"]

_STRATEGIES: Final = ("skip_locked", "conditional_update")
_HIGHEST: Final = {
    "pool_size": 1_000,
    "statement_timeout_ms": 86_400_000,
    "lock_timeout_ms": 86_400_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of Postgres, besides those common to all SQL engines.

    Attributes:
        schema: where the tables are; None: where the role's ``search_path`` says. A missing one
            is created with the tables.
        pool_size: connections at most, from 1 up. The one that listens comes on top.
        transaction_pooler: the connections go through a pooler such as PgBouncer that changes the
            server connection between transactions: nothing is prepared, and nothing is set for
            longer than a transaction.
        notifications: tell other processes through NOTIFY, and LISTEN on a connection of its own;
            None: unless behind a transaction pooler. Without, they poll.
        statement_timeout_ms: for each statement but migrations.
        lock_timeout_ms: for each wait for a row that another transaction has locked.
        claim_strategy: ``conditional_update`` for engines without ``SKIP LOCKED``.
    """

    schema: str | None = None
    pool_size: int = 8
    transaction_pooler: bool = False
    notifications: bool | None = None
    statement_timeout_ms: int = 30_000
    lock_timeout_ms: int = 10_000
    claim_strategy: ClaimStrategy = "skip_locked"

    def __post_init__(self) -> None:
        """Raises: ConfigurationError."""
        if self.schema is not None:
            checked_schema(self.schema)
        for name, highest in _HIGHEST.items():
            value: Any = getattr(self, name)
            if type(value) is not int or not 1 <= value <= highest:
                raise ConfigurationError(
                    f"{name} must be a whole number from 1 to {highest}, not {value!r}"
                )
        for name in ("transaction_pooler", "notifications"):
            value = getattr(self, name)
            if type(value) is not bool and not (value is None and name == "notifications"):
                raise ConfigurationError(f"{name} must be True or False, not {value!r}")
        if self.transaction_pooler and self.notifications:
            raise ConfigurationError(
                "notifications need a connection of their own to the server: leave them out with "
                "transaction_pooler"
            )
        if self.claim_strategy not in _STRATEGIES:
            raise ConfigurationError(
                f"claim_strategy must be one of {', '.join(_STRATEGIES)}, "
                f"not {self.claim_strategy!r}"
            )

    @property
    def notifies(self) -> bool:
        return not self.transaction_pooler if self.notifications is None else self.notifications

    @property
    def timeouts(self) -> dict[str, int]:
        """Settings of the server, in milliseconds."""
        return {
            "statement_timeout": self.statement_timeout_ms,
            "lock_timeout": self.lock_timeout_ms,
            # A process that is stopped in the middle must not keep its runs locked.
            "idle_in_transaction_session_timeout": self.statement_timeout_ms,
        }


OPTION_NAMES: Final = frozenset(field.name for field in fields(Options))
