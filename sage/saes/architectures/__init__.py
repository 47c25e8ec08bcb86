"""SAE architectures: one file each, with the forward pass and what trains it (method, section 9)."""
