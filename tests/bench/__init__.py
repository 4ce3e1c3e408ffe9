"""Benchmarks: `make bench` prints one row a goal and writes build/bench.json."""
