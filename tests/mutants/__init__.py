"""Mutation testing: small single changes of the science rooms, and whether a test notices each.

`make mutants` runs it, `python -m tests.mutants --help` says how.
"""
