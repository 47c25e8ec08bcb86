"""The audit: every metric, ours and those of other benchmarks, examined by the same five lenses.

Method, section 7, after "Are Sparse Autoencoder Benchmarks Reliable?" (Chanin 2026,
arXiv 2605.18229).
"""
