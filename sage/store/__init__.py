"""The store: what a run computed, kept for the runs after it."""
