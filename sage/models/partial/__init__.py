"""Only what an edit can change: the cone of edits, the clean runs it grows out of, and the forward
pass that computes it."""

from sage.models.partial.forward import Partial

__all__ = ["Partial"]
