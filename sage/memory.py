"""Memory limits: how much is held at once, every limit of the package in one place.

What exceeds a limit is done in parts. Limits decide memory and speed, never a result beyond float32
rounding.
"""

# Numbers in one residual stream of a whole forward pass, where the user sets no batch size.
FORWARD_NUMBERS_AT_ONCE = 2**20
# Numbers in the widest activation of a partial forward pass on an accelerator.
PARTIAL_NUMBERS_AT_ONCE = 2**25
# The same on a CPU, whose caches are small.
PARTIAL_NUMBERS_AT_ONCE_ON_CPU = 2**22
# Bytes of clean runs kept between calls: 500 prompts of GPT-2 small.
CLEAN_RUN_BYTES_KEPT = 2**30
# Codes of an SAE, tokens times latents: more do not stay in a CPU's caches between the product and
# the choice among its results.
CODES_AT_ONCE = 2**23
# Steps of one node, over prompts and candidates, that are searched together for several levels.
STACKED_STEPS_AT_ONCE = 2**25
# Numbers in the moves that a search chooses among, over prompts, candidates and nodes or other
# candidates.
SEARCHED_NUMBERS_AT_ONCE = 2**23
# Prompts whose activations are read at once to train or measure an SAE.
PROMPTS_READ_AT_ONCE = 256
# Nonzero codes of streams that are kept while one set of nodes is scored.
CODE_ENTRIES_KEPT = 2**26
# Tokens of the pairs whose activations and gradients attribution holds.
ATTRIBUTION_TOKENS_AT_ONCE = 1024
# Numbers in the counterfactual values that patching holds.
PATCHED_VALUES_AT_ONCE = 2**25
# Sets of nodes patched in one call.
PATCHED_SETS_AT_ONCE = 32
# Distances between tokens and centres of a lookup table.
LOOKUP_DISTANCES_AT_ONCE = 2**24
# Numbers in the codes that are held, or compared with a value of an attribute, to find detectors.
DETECTOR_NUMBERS_AT_ONCE = 2**24
# Numbers gathered of the prompts that a predicate holds on, over latents and predicates.
PREDICATE_NUMBERS_AT_ONCE = 2**22
# Numbers in the values that are written, over edits, nodes and prompts.
WRITTEN_NUMBERS_AT_ONCE = 2**25
# Numbers in the edited values that wait to be run together, over dictionaries, edits and nodes.
EDITED_NUMBERS_HELD = 2**27
# Logits, tokens times vocabulary, that are compared with those of the unmodified model.
LOGITS_AT_ONCE = 2**24
