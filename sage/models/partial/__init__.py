"""Only what an edit can change: its cone, the clean run it grows out of, and the forward pass."""

from sage.models.partial.forward import PartialForward

__all__ = ["PartialForward"]
