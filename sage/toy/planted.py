"""Planted worlds: additive activations whose true features are known, and a model that reads them.

Method, section 7. An activation is the sum of the direction of every attribute's value, of those of
the background features that are active, and of noise. Every world has eight attributes of six
values. In the first they are *independent*; in the second they are *correlated*: A1 and A2, A3 and
A4, ... agree on 80 % of the prompts; in the third four of them are *nested*: the values of A1 lie,
two and two, within those of a coarse attribute C1, and so on to A4 and C4, beside 48 background
features that are no attribute, each active on 5 % of the prompts.

A coarse value has no direction of its own. If it had, it would always be active together with one
of its fine values, and a dictionary of their sums, which is sparser, would control as much with
less: the truth would not be the best there is.

Features are not equally strong on all prompts. If they were, a vector added to the directions of
all values of an attribute, and taken from the bias, would change nothing, since exactly one of them
is active: no dictionary could be said to have the true directions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.controls.setting import generator
from sage.errors import SageError, Unsupported, unknown
from sage.models.anatomy import Anatomy, Layer, Norm
from sage.models.base import Model
from sage.models.steps import HookPoint, Step
from sage.nodes import parse_node
from sage.scores.data import PairRuns
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

if TYPE_CHECKING:
    from sage.task.tokens import FastTokenizer

NODE = parse_node("0.mlp_in@END")

# Of the prompts: those on which a background feature is active.
BACKGROUND_ACTIVE = 0.05
# So many values of a nested attribute lie within one coarse value.
INSIDE = 2


class Drawn(NamedTuple):
    """Prompts before they are prompts: the number of every attribute's value, how strong its
    feature is, and what an activation holds beside these features."""

    values: Int[Tensor, "prompt attribute"]
    strength: Float[Tensor, "prompt attribute"]
    rest: Float[Tensor, "prompt d"]


@dataclass(frozen=True)
class World:
    """Attributes A1, A2, ... of so many values each, and where their features point.

    An active feature adds its unit direction times its strength, which is uniform between
    1 - `spread` and 1 + `spread`; noise is Gaussian, of this standard deviation in every dimension.
    Directions are orthogonal but for those of one attribute's values, any two of which have the
    cosine `cosine`. Every second attribute has the value of the one before it on a share `agree` of
    the prompts, if that is given. The first `nested` attributes lie within coarse ones.
    """

    name: str
    sizes: tuple[int, ...] = (6,) * 8
    d: int = 64
    agree: float | None = None
    nested: int = 0
    background: int = 0
    cosine: float = 0.0
    spread: float = 0.4
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self._orthogonal > self.d:
            raise SageError(
                f"A planted world was asked for {self._orthogonal} orthogonal directions in "
                f"{self.d} dimensions. Give it d = {self._orthogonal} or more, or fewer features."
            )

    @property
    def attributes(self) -> tuple[str, ...]:
        """C1, C2, ... where there are coarse ones, then A1, A2, ..."""
        return (*self.within.values(), *self.blocks)

    @property
    def within(self) -> dict[str, str]:
        """Nested attribute -> the coarse one it lies within: A1 -> C1."""
        return {f"A{number}": f"C{number}" for number in range(1, self.nested + 1)}

    @property
    def blocks(self) -> dict[str, range]:
        """A1, A2, ... -> the features that are their values; background features come after all."""
        ends = accumulate(self.sizes)
        ranges = [range(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        return {f"A{number}": block for number, block in enumerate(ranges, 1)}

    @property
    def features(self) -> int:
        """How many features the attributes have: one for every value."""
        return sum(self.sizes)

    @property
    def words(self) -> dict[str, range]:
        """Attribute -> the tokens among which the model chooses when it says its value."""
        start, words = self.features, dict(self.blocks)
        for fine, coarse in self.within.items():
            words[coarse] = range(start, start + len(self.blocks[fine]) // INSIDE)
            start = words[coarse].stop
        return words

    @property
    def true_l0(self) -> float:
        """How many features are active on a prompt in the mean."""
        return len(self.sizes) + self.background * BACKGROUND_ACTIVE

    @cached_property
    def directions(self) -> Float[Tensor, "feature d"]:
        """Every feature's unit direction, those of the background last."""
        gaussian = torch.randn(self.d, self._orthogonal, generator=self._stream("directions"))
        orthonormal = torch.linalg.qr(gaussian.double()).Q.T.float()
        labelled, background = orthonormal[: self.features], orthonormal[self.features :]
        if self.cosine:
            background, shared = background.split([self.background, len(self.sizes)])
            common = shared.repeat_interleave(torch.tensor(self.sizes), 0)
            labelled = (1 - self.cosine) ** 0.5 * labelled + self.cosine**0.5 * common
        return torch.cat([labelled, background])

    @cached_property
    def duals(self) -> Float[Tensor, "feature d"]:
        """What reads each feature's code off an activation, and nothing of any other feature."""
        return torch.linalg.pinv(self.directions.double()).T.float()

    def codes(self, values: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt feature"]:
        """The true codes of activations: what the duals read, and 0 where that is less than half of
        what a feature adds at least."""
        codes = values @ self.duals.T
        return codes * (codes > (1 - self.spread) / 2)

    def activations(self, n: int, seed: int) -> Float[Tensor, "prompt d"]:
        """Those of `draw`, without prompts: to train on."""
        return self._values(self._drawn(n, f"draw {seed}"))

    def draw(self, n: int, seed: int, *, independent: bool = False) -> Activations:
        """Prompts with their labels and activations; `independent` lets no attributes agree but by
        chance."""
        stream = f"draw {seed} independent" if independent else f"draw {seed}"
        drawn = self._drawn(n, stream, independent=independent)
        nothing: list[tuple[int, ...]] = [()] * n
        return self._held(drawn, stream, nothing, nothing)

    def pairs(self, contrast: str, n: int, seed: int) -> PairRuns:
        """Prompts p, and p' that differ in one attribute; strengths, background and noise are kept.

        A coarse attribute draws the fine one anew inside its new value; a fine one stays inside its
        coarse value. The answer is the attribute's value, the foil that of the other prompt.
        """
        if contrast not in self.attributes:
            raise unknown("attribute of this world", contrast, self.attributes)
        stream = f"pairs {contrast} {seed}"
        drawn = self._drawn(n, stream)
        changed = drawn._replace(values=self._changed(drawn.values, contrast, stream))
        words = self.words[contrast]
        before, after = (
            [(words[labels[contrast]],) for labels in self._labels(side.values)]
            for side in (drawn, changed)
        )
        return PairRuns(
            self._held(drawn, f"{stream} p", before, after),
            self._held(changed, f"{stream} p'", after, before),
        )

    def model(self, *given: Activations) -> Model:
        """The model that has these activations on these prompts. The logit of a value is its code,
        that of a coarse value the sum of the codes of its fine ones."""
        ids = torch.tensor([prompt.ids[0] for run in given for prompt in run.prompts])
        order = ids.argsort()
        values = torch.cat([run.values[NODE] for run in given])[order]
        engine = LookupEngine(ids[order], values, self._readout)
        return Model(
            self.name, str(self.seed), self._anatomy, cast("FastTokenizer", None), False, engine,
            "cpu", "float32",
        )  # fmt: skip

    @property
    def _orthogonal(self) -> int:
        """How many orthogonal directions there are: one more for each attribute whose values share
        one."""
        return self.features + self.background + (len(self.sizes) if self.cosine else 0)

    @property
    def _readout(self) -> Float[Tensor, "word d"]:
        """What reads each logit off an activation."""
        coarse = [
            reduce(
                self.duals[list(self.blocks[fine])],
                "(coarse inside) d -> coarse d",
                "sum",
                inside=INSIDE,
            )
            for fine in self.within
        ]
        return torch.cat([self.duals[: self.features], *coarse])

    @cached_property
    def _anatomy(self) -> Anatomy:
        """One block without weights: nothing of it is read but how wide its nodes are."""
        norm = Norm("rms", torch.ones(self.d), torch.zeros(self.d), 1e-5)
        read, nothing = torch.zeros(1, 1, self.d), torch.zeros(1, 1)
        block = Layer(
            norm, norm, read, nothing, read, nothing, read, nothing, read.mT, torch.zeros(self.d)
        )
        return Anatomy(
            "planted", [block], 1, 1, self.d, 1, self.d, len(self._readout),
            parallel=False, attention_scale=1.0,
        )  # fmt: skip

    def _stream(self, name: str) -> torch.Generator:
        return generator(f"planted/{self.name}/{self.seed}/{name}")

    def _drawn(self, n: int, stream: str, *, independent: bool = False) -> Drawn:
        random = self._stream(stream)
        columns = [torch.randint(size, (n,), generator=random) for size in self.sizes]
        values = torch.stack(columns, -1)
        if self.agree is not None and not independent:
            values = _agreeing(values, self.sizes, self.agree, random)
        uniform = torch.rand(n, len(self.sizes) + self.background, generator=random)
        strength = 1 + self.spread * (2 * uniform - 1)
        labelled, background = strength.split([len(self.sizes), self.background], dim=1)
        active = torch.rand(background.shape, generator=random) < BACKGROUND_ACTIVE
        noise = self.noise * torch.randn(n, self.d, generator=random)
        rest = (background * active) @ self.directions[self.features :] + noise
        return Drawn(values, labelled, rest)

    def _values(self, drawn: Drawn) -> Float[Tensor, "prompt d"]:
        starts = torch.tensor([block.start for block in self.blocks.values()])
        features = self.directions[drawn.values + starts]
        return (drawn.strength[:, :, None] * features).sum(1) + drawn.rest

    def _changed(
        self, values: Int[Tensor, "prompt attribute"], contrast: str, stream: str
    ) -> Int[Tensor, "prompt attribute"]:
        """Another value of the attribute, all equally likely; see `pairs` for nested ones."""
        random = self._stream(f"{stream} changed")
        fine = next((fine for fine, coarse in self.within.items() if coarse == contrast), contrast)
        column = list(self.blocks).index(fine)
        size, before, changed = self.sizes[column], values[:, column], values.clone()

        def another(number: Tensor, among: int) -> Tensor:
            step = torch.randint(1, among, number.shape, generator=random)
            return (number + step) % among

        if contrast in self.within.values():
            place = torch.randint(INSIDE, before.shape, generator=random)
            changed[:, column] = another(before // INSIDE, size // INSIDE) * INSIDE + place
        elif contrast in self.within:
            changed[:, column] = before // INSIDE * INSIDE + another(before % INSIDE, INSIDE)
        else:
            changed[:, column] = another(before, size)
        return changed

    def _labels(self, values: Int[Tensor, "prompt attribute"]) -> list[dict[str, int]]:
        columns = dict(zip(self.blocks, values.T.tolist(), strict=True))
        for fine, coarse in self.within.items():
            columns[coarse] = [value // INSIDE for value in columns[fine]]
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _held(
        self, drawn: Drawn, text: str, answers: list[tuple[int, ...]], foils: list[tuple[int, ...]]
    ) -> Activations:
        """Prompts of one token, numbered after this text, and their activations."""
        prompts: list[Tokenized] = []
        for row, labels in enumerate(self._labels(drawn.values)):
            prompt = Prompt(f"{text} {row:06}", self.name, self.name, {}, labels, {}, (), ())
            ids, index = (_token(prompt.text),), {NODE.position: 0}
            prompts.append(Tokenized(prompt, ids, index, answers[row], foils[row]))
        return Activations(self._anatomy, tuple(prompts), {NODE: self._values(drawn)}, {}, {})


INDEPENDENT = World("independent")
CORRELATED = World("correlated", agree=0.8)
NESTED = World("nested", d=112, nested=4, background=48)
WORLDS = (INDEPENDENT, CORRELATED, NESTED)


def _agreeing(
    values: Int[Tensor, "prompt attribute"],
    sizes: tuple[int, ...],
    share: float,
    random: torch.Generator,
) -> Int[Tensor, "prompt attribute"]:
    """Every second attribute has the value of the one before it on this share of the prompts, and
    any other on the rest."""
    values = values.clone()
    for column in range(1, len(sizes), 2):
        before = values[:, column - 1]
        other = before + torch.randint(1, sizes[column], before.shape, generator=random)
        agree = torch.rand(before.shape, generator=random) < share
        values[:, column] = torch.where(agree, before, other % sizes[column])
    return values


def _token(text: str) -> int:
    """A number that no other text has: 56 bits of its hash."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(eq=False)
class LookupEngine:
    """Looks the node's activation up by the token, `ids` being sorted, and reads one logit off it
    with each row of `readout`."""

    ids: Int[Tensor, "token"]
    values: Float[Tensor, "token d"]
    readout: Float[Tensor, "word d"]
    name: str = "planted"

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        *,
        read: Collection[HookPoint] = (),
        write: Mapping[HookPoint, Step] | None = None,
    ) -> tuple[Float[Tensor, "batch word"], dict[HookPoint, Tensor]]:
        """Logits at the last position, and the node where it is read."""
        values = self.values[torch.searchsorted(self.ids, ids)]
        for step in (write or {}).values():
            values = step(values)
        return values[:, -1] @ self.readout.T, dict.fromkeys(read, values)

    def gradients(
        self,
        ids: Int[Tensor, "batch position"],
        hook_points: Collection[HookPoint],
        objective: Callable[[Tensor], Tensor],
        *,
        at: Float[Tensor, "batch position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[HookPoint, Tensor]:
        """None: a planted world has one node, which is in every section by construction."""
        del ids, hook_points, objective, at, drop
        raise Unsupported("A planted world has no gradients. Score its one node.")
