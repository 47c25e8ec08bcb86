"""The protocol that everything which claims to know the features of a set of nodes meets.

Judged and judge are both a `Dictionary`: supervised features, projected SAEs and controls. Scores
never ask which kind they hold. A dictionary is never handed what an edit should predict: edits are
functions beside it (`sage.dictionaries.edits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels, Site, sites
from sage.nodes import Node


@runtime_checkable
class Dictionary(Protocol):
    """Features, known or claimed, of a set of nodes."""

    @property
    def name(self) -> str:
        """How rows call it: a suite's id, `supervised`, `random`, ..."""
        ...

    @property
    def signed(self) -> bool:
        """Whether codes may be negative (PCA, neurons): a direction's sign then means nothing."""
        ...

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """a_hat at every node, [prompt, d]."""
        ...

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """How active each latent is at each node (no bias pseudo-latent)."""
        ...

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """Each latent's direction at a node (no bias pseudo-latent)."""
        ...


class RunCodes(NamedTuple):
    """What a site's nodes are made of in one run: codes [prompt, latent] and bias [prompt, d].

    Nodes that read the same codes hold the same tensor.
    """

    codes: dict[Node, Tensor]
    bias: dict[Node, Tensor]


class OnDemand(Mapping[Node, Tensor]):
    """A tensor for each of some nodes, all made when one is first asked for."""

    def __init__(self, nodes: Sequence[Node], make: Callable[[], Mapping[Node, Tensor]]) -> None:
        self._nodes, self._make = tuple(nodes), cache(make)

    def __getitem__(self, node: Node) -> Tensor:
        return self._make()[node]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


class SiteCodes(NamedTuple):
    """One site on some of the prompts: latents, their directions [latent, d] at each node, and
    what each run holds of them."""

    site: Site
    rows: slice
    latents: Int[Tensor, "latent"]
    directions: Mapping[Node, Tensor]
    runs: tuple[RunCodes, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.directions))


@runtime_checkable
class ShownBySite(Dictionary, Protocol):
    """A dictionary that shows its codes site by site itself: it has too many latents, or numbers
    them otherwise at every node."""

    def site_codes(
        self, *runs: Activations, latents: Mapping[Site, Int[Tensor, "latent"]] | None = None
    ) -> Iterator[SiteCodes]:
        """As the function `site_codes`."""
        ...


@runtime_checkable
class WideDictionary(ShownBySite, Protocol):
    """A dictionary of so many latents that directions are shown for some of them at a time."""

    def width(self, node: Node) -> int:
        """How many latents there are at a node."""
        ...

    def coded_as(self, other: object) -> bool:
        """Whether another dictionary has the same codes everywhere, whatever its directions."""
        ...

    def some_directions(
        self, nodes: Sequence[Node], latents: Int[Tensor, "some"]
    ) -> dict[Node, Float[Tensor, "some d"]]:
        """The directions of these latents at nodes of one site."""
        ...


def width(dictionary: Dictionary, node: Node) -> int:
    """How many latents a dictionary has at a node."""
    if isinstance(dictionary, WideDictionary):
        return dictionary.width(node)
    return len(dictionary.directions(node))


def coded_alike(one: Dictionary, other: Dictionary) -> bool:
    """Whether two dictionaries have the same codes everywhere, whatever their directions."""
    return one is other or (isinstance(one, WideDictionary) and one.coded_as(other))


def some_directions(
    dictionary: Dictionary, nodes: Sequence[Node], latents: Int[Tensor, "some"]
) -> dict[Node, Float[Tensor, "some d"]]:
    """The directions of these latents at nodes of one site."""
    if isinstance(dictionary, WideDictionary):
        return dictionary.some_directions(nodes, latents)
    return {node: dictionary.directions(node)[latents] for node in nodes}


def site_codes(
    dictionary: Dictionary,
    *runs: Activations,
    latents: Mapping[Site, Int[Tensor, "latent"]] | None = None,
) -> Iterator[SiteCodes]:
    """Site by site what the nodes of the runs are made of, a bounded number of prompts at a time.

    The runs have the same nodes and as many prompts. Shown are these latents of each site, given in
    ascending order; without `latents` all that are active in any of the runs.
    """
    if isinstance(dictionary, ShownBySite):
        yield from dictionary.site_codes(*runs, latents=latents)
        return
    codes = [dictionary.codes(run) for run in runs]
    wholes = [dictionary.reconstruct(run) for run in runs]
    for site, nodes in sites(runs[0].nodes, runs[0].anatomy).items():
        shown = None if latents is None else latents[site]
        if shown is None:
            active = torch.stack([(code[n] != 0).any(0) for code in codes for n in nodes]).any(0)
            shown = active.nonzero().flatten()
        directions = {node: dictionary.directions(node) for node in nodes}
        yield SiteCodes(
            site,
            slice(0, len(runs[0])),
            shown,
            {node: whole[shown] for node, whole in directions.items()},
            tuple(
                RunCodes(
                    {node: code[node][:, shown] for node in nodes},
                    {node: whole[node] - code[node] @ directions[node] for node in nodes},
                )
                for code, whole in zip(codes, wholes, strict=True)
            ),
        )


class SiteMoves(NamedTuple):
    """One site on some of the prompts: how far each candidate moves each node, [prompt, candidate],
    along which direction, [candidate, d].

    A step of 0 is no candidate. `latents` are the candidates' numbers in their dictionary.
    """

    site: Site
    rows: slice
    latents: Int[Tensor, "candidate"]
    steps: Mapping[Node, Tensor]
    directions: Mapping[Node, Tensor]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.directions))

    def only(self, among: Mapping[Node, Tensor]) -> SiteMoves:
        """The same with only the latents that a node's mask over all latents lets through."""
        steps = {
            node: step * among[node][self.latents].to(step) for node, step in self.steps.items()
        }
        return self._replace(steps=steps)

    def at(self, places: Int[Tensor, "some"]) -> SiteMoves:
        """The same with only the candidates at these places."""
        return self._replace(
            latents=self.latents[places],
            steps={node: step[:, places] for node, step in self.steps.items()},
            directions={node: whole[places] for node, whole in self.directions.items()},
        )

    def along(self, dictionary: Dictionary) -> SiteMoves:
        """The same steps along the directions of another dictionary that has the same codes."""
        return self._replace(directions=some_directions(dictionary, self.nodes, self.latents))


@runtime_checkable
class LabelMoves(Protocol):
    """What moves each latent would make from p to p', told by the labels of p' alone."""

    def moves(self, base: Activations, labels: Labels) -> Iterator[SiteMoves]:
        """The candidates of every site, site by site, a bounded number of prompts at a time."""
        ...
