"""Claim, deliver, settle: the worker, for any backend."""
