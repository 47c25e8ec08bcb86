"""The panel of the wired model: suites built from its planted features, each worse in a known way.

Method, section 7. What `sage.toy.panel` does to the one node of a planted world is done here to the
planted SAE of every point of the residual stream. Features of one value are alike in all of them: a
value that is dropped is dropped everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.controls.lookup import NearestCentre, k_means
from sage.dictionaries.controls.setting import generator, unit_vectors
from sage.models.wired import truth
from sage.nodes import Node
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.saes.planted import planted_suite
from sage.saes.sae import SAE, Encoder, hook_label
from sage.saes.suite import Suite
from sage.toy.panel import TRUTH, turned

# Of a suite's name: without it some would be called what the main path calls its own controls.
PREFIX = "wired/"
# Of the residual stream beside a feature's own subspace: what deals its prompts to latents. A
# change of it this small, about what a part of the model without a task adds, deals them anew.
FINENESS = 0.02
# Variables that are present on the same tokens: what a composite is of, by stage and variable.
_TOKEN = ("token", "position")
_OWNERS = {"looked up": "wanted", "previous": "clause"}
COMPOSITES = (
    *((("token", name), _TOKEN) for name in ("owner", "animal", "colour", "size", "word", "bos")),
    *(((stage, name), (other, "owner"))
      for stage, other in _OWNERS.items() for name in ("colour", "size")),
    (("asked", "animal"), ("found", "owner")),
)  # fmt: skip


@dataclass(frozen=True)
class PlantedHook:
    """The planted SAE of one point, `stages` and `variables` of its latents' features, and what
    their subspaces are spanned by."""

    sae: SAE
    of: tuple[tuple[str, str], ...]
    values: tuple[str, ...]
    columns: Mapping[tuple[str, str], Float[Tensor, "d_model dim"]]

    @property
    def encoder(self) -> ReLU:
        """The planted one."""
        return cast("ReLU", self.sae.encoder)

    def stream(self, name: str) -> torch.Generator:
        """Random numbers of this point, by what they are for."""
        return generator(f"wired/{hook_label(self.sae.hook)}/{name}")

    def latents(self, of: tuple[str, str]) -> list[int]:
        """Those of one variable as one stage wrote it; none where it is not written yet."""
        return [latent for latent, its in enumerate(self.of) if its == of]

    @cached_property
    def context(self) -> Float[Tensor, "d_model latent"]:
        """For every latent what reads a phase off the rest of the residual stream: nothing of its
        own subspace, nor of what is the same on all tokens."""
        random = torch.randn(self.sae.d_model, generator=self.stream("context"))
        constant = torch.nn.functional.normalize(self.sae.b_dec, dim=0)
        random = random - constant * (constant @ random)
        read: list[Tensor] = []
        for of in self.of:
            own = self.columns[of]
            read.append(random - own @ (own.T @ random))
        return torch.stack(read, -1) / FINENESS


@dataclass(frozen=True, eq=False)
class Dealt:
    """The planted codes, each dealt to so many latents by the rest of its token's activation, and
    silent where that has a phase below `missed`."""

    W_planted: Float[Tensor, "d_model latent"]
    b_planted: Float[Tensor, " latent"]
    context: Float[Tensor, "d_model latent"]
    parts: int = 1
    missed: float = 0.0
    name: ClassVar[str] = "dealt"

    @property
    def W_enc(self) -> Float[Tensor, "d_model part"]:
        return self.W_planted.repeat_interleave(self.parts, 1)

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token part"]:
        """The codes of all parts of a feature side by side."""
        codes = ReLU(self.W_planted, self.b_planted).encode(x_in)
        phase = (x_in @ self.context) % 1
        codes = codes * (phase >= self.missed)
        part = (phase * self.parts).long()
        return (codes[..., None] * (part[..., None] == torch.arange(self.parts))).flatten(-2)

    def scaled(self, scale: Float[Tensor, " part"]) -> Dealt:
        """Never asked for: every part is scaled as its feature is."""
        del scale
        raise AssertionError("a planted suite is never rescaled")

    def tensors(self) -> dict[str, Tensor]:
        """The planted weights, and what deals."""
        return {
            "W_planted": self.W_planted, "b_planted": self.b_planted, "context": self.context
        }  # fmt: skip

    def settings(self) -> dict[str, object]:
        """How many parts, and the share that is missed."""
        return {"parts": self.parts, "missed": self.missed}


@dataclass(frozen=True, eq=False)
class Combined:
    """Latents for pairs of planted features: the mean of both codes where both are active. A
    feature paired with itself is itself."""

    W_planted: Float[Tensor, "d_model latent"]
    b_planted: Float[Tensor, " latent"]
    first: tuple[int, ...]
    second: tuple[int, ...]
    name: ClassVar[str] = "combined"

    @property
    def W_enc(self) -> Float[Tensor, "d_model pair"]:
        return (self.W_planted[:, list(self.first)] + self.W_planted[:, list(self.second)]) / 2

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token pair"]:
        """The codes of all pairs."""
        codes = ReLU(self.W_planted, self.b_planted).encode(x_in)
        first, second = codes[..., list(self.first)], codes[..., list(self.second)]
        return (first + second) / 2 * ((first > 0) & (second > 0))

    def scaled(self, scale: Float[Tensor, " pair"]) -> Combined:
        """Never asked for."""
        del scale
        raise AssertionError("a planted suite is never rescaled")

    def tensors(self) -> dict[str, Tensor]:
        """The planted weights."""
        return {"W_planted": self.W_planted, "b_planted": self.b_planted}

    def settings(self) -> dict[str, object]:
        """The pairs."""
        return {"first": self.first, "second": self.second}


class BuiltSuite(NamedTuple):
    """One entry of the panel: what is made of each planted SAE, and whether it is a control."""

    name: str
    make: Callable[[PlantedHook], SAE]
    control: bool = False

    def on(self, hooks: Sequence[PlantedHook]) -> Suite:
        """The suite of these points."""
        return Suite(PREFIX + self.name, {at.sae.hook: self.make(at) for at in hooks})


def planted_hooks(hooks: tuple[Node, ...]) -> list[PlantedHook]:
    """The planted SAEs of these points of the wired model, with what their latents stand for."""
    wired = truth(0)
    planted: list[PlantedHook] = []
    for hook, sae in planted_suite(hooks).saes.items():
        subspaces = wired.subspaces(hook)
        named = [((s.stage, s.variable.name), s.variable.values) for s in subspaces]
        columns = {(s.stage, s.variable.name): _float(s.columns) for s in subspaces}
        of = tuple(name for name, values in named for _ in values)
        values = tuple(value for _, values in named for value in values)
        planted.append(PlantedHook(sae, of, values, columns))
    return planted


def lookup(
    hooks: Sequence[PlantedHook],
    remembered: Mapping[Node, Float[Tensor, "token d_model"]],
    *,
    centres: int,
) -> Suite:
    """The nearest of so many k-means centres of remembered tokens: a memory."""
    saes: dict[Node, SAE] = {}
    for at in hooks:
        tokens = remembered[at.sae.hook]
        mean = tokens.mean(0)
        stream = f"wired/{hook_label(at.sae.hook)}/lookup"
        table = NearestCentre(k_means(tokens - mean, centres=centres, stream=stream))
        saes[at.sae.hook] = replace(
            at.sae, encoder=table, W_dec=table.centres, b_dec=mean, subtract_b_dec=True
        )
    return Suite(f"{PREFIX}lookup {centres}", saes)


def _float(array: Float[np.ndarray, "d_model dim"]) -> Float[Tensor, "d_model dim"]:
    return torch.from_numpy(array).float()


def _with(at: PlantedHook, encoder: Encoder, W_dec: Float[Tensor, "latent d_model"]) -> SAE:
    return replace(at.sae, encoder=encoder, W_dec=W_dec)


def _kept(at: PlantedHook, latents: Sequence[int]) -> SAE:
    encoder = ReLU(at.encoder.W_enc[:, latents], at.encoder.b_enc[latents])
    return _with(at, encoder, at.sae.W_dec[latents])


def _rotated(at: PlantedHook, *, degrees: float) -> SAE:
    sizes = at.sae.W_dec.norm(dim=-1, keepdim=True)
    rows = turned(at.sae.W_dec / sizes, degrees, at.stream("rotated"))
    return _with(at, at.encoder, sizes * rows)


def _merged(at: PlantedHook) -> SAE:
    pairs: list[tuple[int, int]] = []
    for one, other in COMPOSITES:
        pairs += [(a, b) for a in at.latents(one) for b in at.latents(other)]
    merged = {latent for pair in pairs for latent in pair}
    pairs += [(latent, latent) for latent in range(at.sae.width) if latent not in merged]
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    apart = torch.tensor([a != b for a, b in pairs])[:, None]
    W_dec = at.sae.W_dec[first] + apart * at.sae.W_dec[second]
    encoder = Combined(at.encoder.W_enc, at.encoder.b_enc, tuple(first), tuple(second))
    return _with(at, encoder, W_dec)


def _split(at: PlantedHook, *, parts: int) -> SAE:
    encoder = Dealt(at.encoder.W_enc, at.encoder.b_enc, at.context, parts)
    return _with(at, encoder, at.sae.W_dec.repeat_interleave(parts, 0))


def _dropped(at: PlantedHook, *, share: float) -> SAE:
    """Without this share of the values of every variable that has more than one, those drawn first;
    positions stay."""
    values = sorted({*zip((name for _, name in at.of), at.values, strict=True)})
    values = [value for value in values if value[0] not in ("position", "word", "bos")]
    order = torch.randperm(len(values), generator=generator("wired/dropped")).tolist()
    gone = {values[n] for n in order[: round(share * len(values))]}
    return _kept(
        at,
        [n for n, (of, value) in enumerate(zip(at.of, at.values, strict=True))
         if (of[1], value) not in gone],
    )  # fmt: skip


def _misses(at: PlantedHook, *, share: float) -> SAE:
    encoder = Dealt(at.encoder.W_enc, at.encoder.b_enc, at.context, missed=share)
    return _with(at, encoder, at.sae.W_dec)


def _duplicates(at: PlantedHook, *, copies: int) -> SAE:
    encoder = ReLU(
        at.encoder.W_enc.repeat_interleave(copies, 1) / copies,
        at.encoder.b_enc.repeat_interleave(copies) / copies,
    )
    return _with(at, encoder, at.sae.W_dec.repeat_interleave(copies, 0))


def _dead(at: PlantedHook) -> SAE:
    W_enc, b_enc = at.encoder.W_enc, at.encoder.b_enc
    encoder = ReLU(
        torch.cat([W_enc, torch.zeros_like(W_enc)], 1), torch.cat([b_enc, -torch.ones_like(b_enc)])
    )
    return _with(at, encoder, torch.cat([at.sae.W_dec, _random_rows(at, "dead")]))


def _random(at: PlantedHook) -> SAE:
    return _with(at, at.encoder, _random_rows(at, "random"))


def _permuted(at: PlantedHook) -> SAE:
    order = torch.randperm(at.sae.width, generator=at.stream("permuted"))
    W_dec = torch.empty_like(at.sae.W_dec)
    W_dec[order] = at.sae.W_dec[order.roll(1)]
    return _with(at, at.encoder, W_dec)


def _untrained(at: PlantedHook) -> SAE:
    """Random directions, of whose products with the residual stream as many are kept as features
    are present on a token."""
    rows = _random_rows(at, "untrained")
    zeros = torch.zeros(len(rows))
    present = len({of for of in at.of if of[1] not in ("size", "bos", "word")})
    return _with(at, TopK(rows.T.contiguous(), zeros, zeros + 1, present), rows)


def _random_rows(at: PlantedHook, name: str) -> Float[Tensor, "latent d_model"]:
    return unit_vectors(at.sae.width, at.sae.d_model, f"wired/{hook_label(at.sae.hook)}/{name}")


BUILT = (
    BuiltSuite(TRUTH, lambda at: at.sae),
    *(
        BuiltSuite(f"rotated {n:.0f}", partial(_rotated, degrees=n))
        for n in (15.0, 30.0, 45.0, 60.0)
    ),
    BuiltSuite("merged pairs", _merged),
    *(BuiltSuite(f"split x{n}", partial(_split, parts=n)) for n in (2, 4, 8)),
    *(BuiltSuite(f"dropped {p}", partial(_dropped, share=p)) for p in (0.25, 0.5, 0.75)),
    *(BuiltSuite(f"misses {p}", partial(_misses, share=p)) for p in (0.1, 0.3)),
    *(BuiltSuite(f"duplicates x{n}", partial(_duplicates, copies=n)) for n in (2, 4)),
    BuiltSuite("dead", _dead),
    BuiltSuite("random", _random, control=True),
    BuiltSuite("permuted", _permuted, control=True),
    BuiltSuite("untrained", _untrained, control=True),
)
