"""Options of copying: ways of moving latents that published tests have taken.

Method, section 5.6. Nothing but copying has any other than the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sage.errors import Unsupported, unknown


@dataclass(frozen=True)
class Options:
    """Options of copying; the defaults are what all else uses.

    `choice`: one for all nodes that read a site, or one for each node (Makelov). `sources`: at z a
    candidate is a latent, or a latent at one source position (counted back from the destination).
    `scale`: the clean s(x), or s(x_hat), at z for each source. `codes`: the encoder's, or those
    that non-negative least squares gives the active latents.
    """

    choice: Literal["joint", "per node"] = "joint"
    sources: Literal["together", "apart"] = "together"
    scale: Literal["frozen", "recomputed"] = "frozen"
    codes: Literal["encoder", "oracle"] = "encoder"

    def __post_init__(self) -> None:
        if self.sources == "apart" and self.codes == "oracle":
            raise Unsupported(
                "Oracle codes are of latents, not of a latent at one source position: ask for one "
                "of these options at a time."
            )


HEADLINE = Options()
NAMED_OPTIONS: Mapping[str, Options] = {
    "per-node": Options(choice="per node"),
    "sources": Options(sources="apart"),
    "recomputed": Options(scale="recomputed"),
    "oracle": Options(codes="oracle"),
}


def options_named(names: Sequence[str]) -> dict[str, Options]:
    """The options that `--also` names, by name: per-node, sources, recomputed, oracle."""
    for name in names:
        if name not in NAMED_OPTIONS:
            raise unknown("option", name, NAMED_OPTIONS)
    return {name: NAMED_OPTIONS[name] for name in names}
