"""Metrics of other benchmarks, in fast forms of our own, on the arrays that our scores see."""
