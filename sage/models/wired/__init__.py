"""The wired model: a GPT-2 with weights set by hand, so that its circuit and features are known.

It completes "My dog is red, your cat is big; so dog is" with " red" (the task `wired`). Nothing
here is measured: sections, features and dictionary follow from the constants that the weights are
made of, and tests hold them against brute-force patching. The scores of everything that claims to
find circuits or features can be checked on it, as on models compiled from programs (Lindner et al.
2023, arXiv 2301.05062).
"""

from sage.models.wired.folder import wired_folder
from sage.models.wired.truth import PlantedSAE, Wired, truth

__all__ = ["PlantedSAE", "Wired", "truth", "wired_folder"]
