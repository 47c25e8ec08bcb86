"""Toy worlds whose true features are known, and dictionaries of known quality to score in them."""
