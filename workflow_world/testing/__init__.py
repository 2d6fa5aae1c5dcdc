"""For tests: a manual clock, and the conformance suite. Nothing else imports this package."""

from .clock import ManualClock

__all__ = ["ManualClock"]
