"""Benchmarks: this World beside its peers. ``python -m benchmarks --help``; see docs/benchmarks.md."""
