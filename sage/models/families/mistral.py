"""Mistral: Llama's blocks; early ones see a window of the last positions only.

Jiang et al. 2023, arXiv 2310.06825.
"""

from __future__ import annotations

from sage.models.families.llama import llama_like

family = llama_like("mistral", "Mistral")
