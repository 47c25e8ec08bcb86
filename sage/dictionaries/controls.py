"""Dictionaries whose score is known: without them no score of an SAE means anything.

Method, section 6. Each differs from the judged SAE in one thing: in its directions (random,
permuted), in not having been trained (untrained), in being a basis (PCA, neurons), in size
(best-m), or in having no latents at all (identity, mean only). All but the last two go through the
same projection as the SAE itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sage.dictionaries.activations import Activations, Dictionary, Edited, Moments, sites
from sage.dictionaries.projected import ProjectedSuite, project
from sage.models.anatomy import Anatomy
from sage.nodes import Node, Section
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE
from sage.saes.suite import Suite

BEST = (1, 4, 16, 64)
# Beside identity and mean only, which always are.
CONTROLS = ("random", "permuted", "untrained", "PCA", "neurons", *(f"best-{m}" for m in BEST))


class Controls(NamedTuple):
    """The controls of a suite on one section; `l0` is the mean number of active latents, before
    projection and over hooks."""

    dictionaries: tuple[Dictionary, ...]
    l0: dict[str, float]


def controls(
    judged: ProjectedSuite,
    fit: Activations,
    *,
    section: Section,
    seed: int = 0,
    among: Collection[str] = CONTROLS,
    known: dict[str, float] | None = None,
) -> Controls:
    """The controls of a projected suite, or some `among` them; whatever a control chooses or fits
    it does on `fit`.

    `seed` draws random directions and permutations from a stream of their own, which no training
    uses. `known` holds the L0 of controls that suites have in common, by their `content`, and fills
    up.
    """
    sparsity = {hook: max(1, round(l0)) for hook, l0 in judged.l0(fit).items()}
    make: dict[str, Callable[[], ProjectedSuite]] = {
        "random": lambda: replace(
            judged, name="random", decoder=partial(random_directions, seed=seed)
        ),
        "permuted": lambda: replace(
            judged, name="permuted", decoder=partial(permuted_directions, seed=seed)
        ),
        "untrained": lambda: _projected(
            judged,
            "untrained",
            {hook: untrained(_sae(judged, hook), k=k, seed=seed) for hook, k in sparsity.items()},
            sparsity,
        ),
        "PCA": lambda: _basis(
            judged, "PCA", {hook: principal_axes(fit, hook) for hook in sparsity}, sparsity
        ),
        "neurons": lambda: _basis(
            judged, "neurons", {hook: neurons(fit, hook) for hook in sparsity}, sparsity
        ),
    }
    made = [make[name]() for name in make if name in among]
    if sizes := [m for m in BEST if f"best-{m}" in among]:
        made += best(judged, fit, section=section, sizes=sizes)
    l0 = {control.name: _mean_l0(control, fit, {} if known is None else known) for control in made}
    return Controls(
        (identity(judged.anatomy), mean_only(judged.anatomy, judged.moments), *made), l0
    )


def identity(anatomy: Anatomy) -> WithoutLatents:
    """Gives every activation back: the ceiling of approximation."""
    return WithoutLatents("identity", anatomy, lambda given: dict(given.values))


def mean_only(anatomy: Anatomy, moments: Moments) -> WithoutLatents:
    """Gives every activation's mean over `fit`."""
    return WithoutLatents(
        "mean only",
        anatomy,
        lambda given: {
            node: moments.mean[node].expand_as(given.values[node]) for node in given.nodes
        },
    )


def random_directions(sae: SAE, *, seed: int) -> Float[Tensor, "latent d_model"]:
    """A random direction for every latent, as long as the SAE's own."""
    return _unit_vectors(sae.width, sae.d_model, f"random/{seed}/{sae.site}").to(
        sae.W_dec
    ) * sae.W_dec.norm(dim=-1, keepdim=True)


def permuted_directions(sae: SAE, *, seed: int) -> Float[Tensor, "latent d_model"]:
    """The SAE's own directions, dealt out to its latents anew."""
    order = torch.randperm(sae.width, generator=_generator(f"permuted/{seed}/{sae.site}"))
    return sae.W_dec[order.to(sae.W_dec.device)]


def untrained(sae: SAE, *, k: int, seed: int) -> SAE:
    """As wide, with unit random directions as decoder, their transpose as encoder, no biases, and
    the k largest codes kept."""
    W_dec = _unit_vectors(sae.width, sae.d_model, f"untrained/{seed}/{sae.site}").to(sae.W_dec)
    nothing = W_dec.new_zeros(sae.width)
    return replace(
        sae,
        id=f"untrained {sae.id}",
        encoder=TopK(W_dec.T, nothing, nothing + 1, min(k, sae.width)),
        W_dec=W_dec,
        b_dec=W_dec.new_zeros(sae.d_model),
        subtract_b_dec=False,
    )


class Axes(NamedTuple):
    """A mean and orthonormal axes about it."""

    mean: Float[Tensor, "d_model"]
    axes: Float[Tensor, "axis d_model"]


def principal_axes(fit: Activations, hook: Node) -> Axes:
    """Mean and principal axes, the first with the largest variance, of a residual stream over all
    tokens but BOS; in float64."""
    tokens = _tokens(fit, hook).double()
    mean = tokens.mean(0)
    _, axes = torch.linalg.eigh((tokens - mean).T @ (tokens - mean))
    return Axes(mean.float(), axes.T.flip(0).float())


def neurons(fit: Activations, hook: Node) -> Axes:
    """Mean over all tokens but BOS, and the model's own axes."""
    tokens = _tokens(fit, hook)
    return Axes(tokens.double().mean(0).float(), torch.eye(tokens.shape[-1], device=tokens.device))


def best(
    judged: ProjectedSuite, fit: Activations, *, section: Section, sizes: Sequence[int] = BEST
) -> list[ProjectedSuite]:
    """The suite with only m latents at each site: those that alone explain most of the variance of
    its nodes, by the nodes' statistic."""
    explained = judged.explained(fit)
    found: list[ProjectedSuite] = []
    for m in sizes:
        kept: dict[Node, Tensor] = {}
        for nodes in sites(fit.nodes, judged.anatomy).values():
            gain = torch.stack([section.statistic[node] * explained[node] for node in nodes]).sum(0)
            mask = torch.zeros_like(gain, dtype=torch.bool)
            mask[gain.argsort(descending=True, stable=True)[:m]] = True
            kept |= dict.fromkeys(nodes, mask)
        found.append(replace(judged.only(kept), name=f"best-{m}"))
    return found


def shuffle_labels(given: Activations, *, seed: int) -> Activations:
    """The same activations with every prompt's labels taken from another, all attributes together:
    features fitted on them must score 0."""
    order = torch.randperm(len(given), generator=_generator(f"shuffled labels/{seed}")).tolist()
    donors = [given.prompts[row].prompt.labels for row in order]
    prompts = tuple(
        replace(own, prompt=replace(own.prompt, labels=labels))
        for own, labels in zip(given.prompts, donors, strict=True)
    )
    return replace(given, prompts=prompts)


@dataclass(frozen=True, eq=False)
class WithoutLatents:
    """A dictionary that only reconstructs: it has nothing to edit with."""

    name: str
    anatomy: Anatomy
    made: Callable[[Activations], dict[Node, Tensor]]
    signed: bool = True

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """What it makes of every node, [prompt, d]."""
        return self.made(given)

    def edit(
        self, base: Activations, target: Activations, *, ks: Sequence[int]
    ) -> dict[int, Edited]:
        """The base, whatever the target."""
        picks = torch.zeros_like(base.index(base.nodes[0].position))
        return {k: Edited(dict(base.values), picks, picks.float()) for k in ks}

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """No latents."""
        return {node: value.new_zeros(len(given), 0) for node, value in given.values.items()}

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """No latents."""
        return self.anatomy.norm_before(node).weight.new_zeros(0, self.anatomy.width(node.kind))

    @property
    def coding(self) -> str:
        """No codes."""
        return self.name

    @property
    def content(self) -> str | None:
        """The activations decide it all."""
        return self.name

    def only(self, latents: Mapping[Node, Bool[Tensor, "latent"]]) -> WithoutLatents:  # noqa: ARG002
        """Itself."""
        return self


def _mean_l0(control: ProjectedSuite, fit: Activations, known: dict[str, float]) -> float:
    if control.content in known:
        return known[control.content]
    found = control.l0(fit)
    mean = sum(found.values()) / len(found)
    if control.content:
        known[control.content] = mean
    return mean


def _basis(
    judged: ProjectedSuite, name: str, axes: Mapping[Node, Axes], sparsity: Mapping[Node, int]
) -> ProjectedSuite:
    """Coordinates about the mean, the largest in size kept; each sign of an axis is a latent, and
    which sign is which is chance."""
    saes = {
        hook: _axes_sae(_sae(judged, hook), found, k=sparsity[hook], name=name)
        for hook, found in axes.items()
    }
    return replace(_projected(judged, name, saes, sparsity), signed=False)


def _axes_sae(sae: SAE, found: Axes, *, k: int, name: str) -> SAE:
    both = torch.cat([found.axes, -found.axes]).to(sae.W_dec)
    nothing = both.new_zeros(len(both))
    encoder = TopK(both.T, nothing, nothing + 1, min(k, sae.d_model))
    return SAE(
        f"{name} {sae.id}",
        encoder,
        both,
        found.mean.to(both),
        sae.hook,
        subtract_b_dec=True,
        reads_bos=False,
    )


def _projected(
    judged: ProjectedSuite, name: str, saes: Mapping[Node, SAE], sparsity: Mapping[Node, int]
) -> ProjectedSuite:
    """SAEs made for a suite of which they know nothing but widths, sparsity and what is done to an
    input."""
    made = project(
        Suite(name, saes), judged.anatomy, judged.nodes, judged.moments, options=judged.options
    )
    facts = [(str(hook), sparsity[hook], *_facts(sae)) for hook, sae in sorted(saes.items())]
    return replace(made, content=f"{name} {facts} {judged.options}")


def _facts(sae: SAE) -> tuple[object, ...]:
    """What an SAE is beside its weights."""
    return (
        sae.width,
        sae.W_dec.dtype,
        sae.normalisation,
        sae.centred,
        sae.subtract_b_dec,
        sae.reads_bos,
    )


def _sae(judged: ProjectedSuite, hook: Node) -> SAE:
    return judged.suite.saes[hook]


def _tokens(fit: Activations, hook: Node) -> Float[Tensor, "token d_model"]:
    """The residual stream at every token of every prompt but BOS."""
    first = 1 if fit.bos else 0
    return torch.cat(
        [
            row[first : len(prompt.ids)]
            for row, prompt in zip(fit.streams[hook], fit.prompts, strict=True)
        ]
    )


@lru_cache(maxsize=2)
def _unit_vectors(count: int, d: int, stream: str) -> Float[Tensor, "vector d"]:
    """Random directions; the last few sets are held, because every site of a hook asks for the
    same."""
    return torch.nn.functional.normalize(
        torch.randn(count, d, generator=_generator(stream)), dim=-1
    )


def _generator(stream: str) -> torch.Generator:
    """A generator seeded from a name, so that no seed of a training run can meet it."""
    digest = hashlib.sha256(f"sage control/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
