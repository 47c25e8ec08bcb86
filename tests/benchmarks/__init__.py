"""Scripts that measure how fast sage is and how much it computes; not tests. `python -m
tests.benchmarks.speed --help` says how."""
