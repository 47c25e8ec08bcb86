"""The tables of a report, and the noun they are made of."""
