"""Captions: what each figure shows and how to read it."""

from __future__ import annotations

WHERE = (
    "{contrast}: {nodes}, the strongest {best} ({statistic:.2f}). Colour: how much the task's metric changes when this node alone "
    "takes its counterfactual value (mean over directions of the absolute mean); yellow is most. Dark grey: patched, not confirmed. "
    "Light grey: ranked too low to be patched ({patched} of {candidates} were). Layers run upwards, heads across; kinds and positions "
    "without a confirmed node are left out."
)

BETWEEN = (
    "Every component between its floor, 0 (the best trivial control), and its ceiling, 1 (supervised features; for T1 the unchanged "
    "activation), averaged over contrasts. Blue dots are the judged suites with 95 % intervals, best control first; the small marks on "
    "the same line are dictionaries scored on the same nodes: a suite left of PCA controls less than principal components do."
)

OVERALL = (
    "Each line is a suite, blue its mean over tasks with the 95 % interval; 0 is the best trivial control and 1 what supervised "
    "features reach. The small marks are dictionaries scored on the same nodes. Look at a suite's distance from PCA before its "
    "distance from 0."
)

HOLLOW = " Hollow: a suite that reaches fewer nodes than others of its model; its score is for those nodes, and not to be ranked with theirs."

CUT = " What lies below -1 or above 2 is not drawn; the data has it."

RAW = (
    "The same components as measured, before they are put between floor and ceiling. On each line the grey tick is the floor, the "
    "black tick the ceiling and the dot the suite, with its 95 % interval. Where the ticks nearly touch, the contrast cannot tell good "
    "from bad and the component is undefined; the table of components by contrast says why."
)

CURVES = (
    "How much of the ground-truth edit is made when k latents may be moved at each site: accuracy is the share of prompts on which the "
    "model answers as under the ground-truth patch, graded the share of its effect on the metric. Read a suite against supervised "
    "features at the same k: the control score is the area from k = 1 to k max (dashed; what lies beyond is shaded and does not "
    "count), above what k = 0 gives, relative to theirs. Bands are 95 % intervals."
)

FEATURES = (
    "Signed cosines between the supervised features of each contrast, at the strongest node (named above the map). Orange is the same "
    "direction, purple the opposite one, limits fixed at -1 and 1. The two values of a binary attribute are each other's negatives; "
    "blocks of orange off the diagonal say that the model treats those values alike."
)

MATRIX = {
    "f1": (
        "Rows are latents by number, columns the values a contrast can take, at the strongest node that the suite reaches (named above "
        "the map): for each value the latent that detects it best. Colour is F1 on test, corrected for chance, from 0 to 1. A bright "
        "diagonal means one latent for one value; a bright row, one latent for many; a dark column, a value that no latent stands for."
    ),
    "cosine": (
        "Rows are latents by number, matched one to one with the supervised features in the columns so that the cosines on the "
        "diagonal sum to the most, at the strongest node that the suite reaches. Colour is the signed cosine of the two directions, "
        "limits fixed at -1 and 1. An orange diagonal on a pale ground means that the suite has found these features."
    ),
}

SUITES = (
    "{score} against sparsity, means over tasks with 95 % intervals. Up and to the left is better: more of what supervised features "
    "do, with fewer latents active. Colour and shape are the architecture; the dashed line is PCA on the same nodes, with as many "
    "components per token as each suite has latents. Names stand where there is room."
)

SIZES = (
    "{score} against sparsity relative to the width D of the residual stream, so that models of different size share one axis; means "
    "over tasks with 95 % intervals, colour and shape are the model. If the dots of all models lie on one band, size matters through D "
    "alone; a model whose dots lie below others knows its features less well at equal sparsity. Names stand where there is room."
)
