"""Fidelity: what a model loses where an SAE's reconstruction stands in place of its activation."""
