"""Frontiers: how performance falls with sparsity, as a curve through SAEs of one architecture."""
