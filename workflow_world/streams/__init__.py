"""Live stream reads, for any backend."""
