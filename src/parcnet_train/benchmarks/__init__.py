"""Benchmarks: timings of variants of one computation, interleaved."""
