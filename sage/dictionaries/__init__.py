"""Dictionaries: everything that claims to know the features of a set of nodes."""
