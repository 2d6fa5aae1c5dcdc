"""The rules: pure functions and plain values. No I/O, no clock, no randomness, no third party."""
