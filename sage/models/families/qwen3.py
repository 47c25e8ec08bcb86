"""Qwen 3, dense: Llama's blocks, with an RMS norm of every head's query and key.

Yang et al. 2025, arXiv 2505.09388.
"""

from __future__ import annotations

from sage.models.families.llama import llama_like

family = llama_like("qwen3", "Qwen 3")
