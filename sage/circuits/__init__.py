"""Published circuits: as nouns, drawn, and held against a discovery (method, section 2)."""
