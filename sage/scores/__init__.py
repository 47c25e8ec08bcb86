"""Scores: how well dictionaries know what a contrast changes (method, sections 5 and 6).

One file a score, each with a `SCORE`; `score.py` lists them.
"""
