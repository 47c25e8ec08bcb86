"""Sweeps: tasks, models, suites and seeds in one result folder, over processes or a Ray cluster."""
