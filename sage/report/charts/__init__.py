"""Kinds of charts: each takes scores and names and returns a canvas, and knows no result file."""
