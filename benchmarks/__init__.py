"""Benchmarks: this World beside its peers. See docs/benchmarks.md."""
