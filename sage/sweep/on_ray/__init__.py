"""A sweep on a Ray cluster: one actor for each worker, which keeps its model and suites warm."""
