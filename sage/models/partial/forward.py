"""Our own exact forward pass over a model's weights, which computes only what edits can change.

Layers below the lowest edit are not run, nor positions that no edit reaches or that END's logits do
not feel; all else is taken from the clean run of the same prompts. A full forward pass by the
library that loaded the model is its literal twin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sage.models.edits import Scatter
from sage.models.network import Network, normalise
from sage.models.partial.clean import Clean, CleanRuns
from sage.models.partial.cone import Level, cone
from sage.models.steps import Point
from sage.task.metric import Loudest

# Numbers held at once by the widest activation of a batch, on an accelerator and on a CPU, whose
# caches are small.
NUMBERS_AT_ONCE = (2**25, 2**22)
# Bytes of clean runs kept between calls: 500 prompts of GPT-2 small.
CLEAN_BYTES = 2**30
# Floating-point operations that take as long as starting those of one layer: on an accelerator, on
# a CPU.
OVERHEAD = (2.0**31, 2.0**24)

Scatters = Mapping[Point, Scatter]
Keep = Callable[[str, Tensor], None]


def _keep_nothing(kind: str, value: Tensor) -> None:
    del kind, value


class Answer(NamedTuple):
    """Logits at END, and how many layers were computed, counted once for every token they were
    computed at.

    Of logits of some words, `loudest` gives the argmax over the vocabulary, of the cells it is
    asked about.
    """

    logits: Float[Tensor, "cell word"]
    token_layers: int
    loudest: Loudest | None


@dataclass(frozen=True, eq=False)
class Partial:
    """Runs edits of a model; `clean` holds the clean runs of the prompts last edited."""

    network: Network
    clean: CleanRuns = field(default_factory=lambda: CleanRuns(CLEAN_BYTES))

    @property
    def overhead(self) -> float:
        """What a batch costs for each layer, however small it is, in floating-point operations."""
        return OVERHEAD[self._on_cpu]

    @property
    def _on_cpu(self) -> bool:
        return self.network.W_E.device.type == "cpu"

    def at_once(self, length: int, positions: int) -> int:
        """How many runs fit into one batch, of prompts of this length, computed at this many
        positions."""
        anatomy = self.network.anatomy
        widest = max(
            2 * length * anatomy.kv_heads * anatomy.d_head,
            positions * (anatomy.d_mlp + anatomy.d_model),
            anatomy.d_vocab,
        )
        return max(1, NUMBERS_AT_ONCE[self._on_cpu] // widest)

    def run_clean(self, ids: Int[Tensor, "prompt position"], *, first: int = 0) -> Clean:
        """The clean run of prompts of one length; layers below `first` are run and not kept."""
        anatomy, everywhere = self.network.anatomy, tuple(range(ids.shape[1]))
        streams: list[Tensor] = []
        keys: list[Tensor] = []
        values: list[Tensor] = []
        with torch.no_grad():
            x = self.network.embed(ids)
            for layer in range(anatomy.layers):
                own, other = self._empty_keys(x)
                if layer >= first:
                    streams.append(x)
                    keys.append(own)
                    values.append(other)
                after = everywhere if layer + 1 < anatomy.layers else everywhere[-1:]
                x = self._block(x, Level(layer, everywhere, after), own, other, {})
        return Clean(first, ids.shape[1], streams, keys, values, x[:, 0])

    def read(
        self, ids: Int[Tensor, "prompt position"], points: Collection[Point]
    ) -> dict[Point, Tensor]:
        """Whole points in the clean run of prompts of one length; layers above the highest are not
        run."""
        everywhere = tuple(range(ids.shape[1]))
        top = max(point.layer for point in points)
        found: dict[Point, Tensor] = {}
        with torch.no_grad():
            x = self.network.embed(ids)
            for layer in range(top + 1):

                def keep(kind: str, value: Tensor, layer: int = layer) -> None:
                    if Point(kind, layer) in points:
                        found[Point(kind, layer)] = value

                keep("embed", x)
                keep("resid_pre", x)
                x = self._block(
                    x, Level(layer, everywhere, everywhere), *self._empty_keys(x), {}, keep
                )
                keep("resid_post", x)
        return found

    def run(
        self,
        clean: Clean,
        rows: Int[Tensor, "cell"],
        edits: Scatters,
        *,
        words: Int[Tensor, "word"] | None = None,
    ) -> Answer:
        """The logits of cells at END, of some words where these are given; `rows` are their
        prompts' rows in the clean run."""
        anatomy, length = self.network.anatomy, clean.length
        touched = {point: frozenset(edit.positions.tolist()) for point, edit in edits.items()}
        found = cone(touched, [block.window for block in anatomy.blocks], length)
        rows = rows.to(clean.last.device)
        held: tuple[int, ...] = ()
        x, work = clean.last[rows, None][:, :0], 0
        with torch.no_grad():
            for level in found.levels:
                layer, every = level.layer, level.every
                if every:
                    own = clean.at(layer)
                    x = _entering(own.stream, rows, every, held, x)
                    x = _set(
                        x, every, edits, Point("resid_post", layer - 1), Point("resid_pre", layer)
                    )
                    x = self._block(x, level, own.keys[rows], own.values[rows], edits)
                    work += len(rows) * len(every)
                held = level.after
            last = clean.last[rows]
            if found.last:
                x = x[:, held.index(length - 1), None] if length - 1 in held else last[:, None]
                last = _set(x, (length - 1,), edits, Point("resid_post", anatomy.layers - 1))[:, 0]
            return Answer(
                self.network.unembed(last, words),
                work,
                None if words is None else lambda cells: self._loudest(last[cells]),
            )

    def _loudest(self, x: Float[Tensor, "cell d_model"]) -> Int[Tensor, "cell"]:
        with torch.no_grad():
            return self.network.loudest(x)

    def _empty_keys(self, x: Float[Tensor, "prompt position d_model"]) -> tuple[Tensor, Tensor]:
        """Room for one layer's keys and values, [prompt, kv_head, position, d_head] each."""
        anatomy = self.network.anatomy
        keys = x.new_empty(len(x), anatomy.kv_heads, x.shape[1], anatomy.d_head)
        return keys, torch.empty_like(keys)

    def _block(
        self,
        x: Float[Tensor, "cell every d_model"],
        level: Level,
        keys: Float[Tensor, "cell kv_head position d_head"],
        values: Float[Tensor, "cell kv_head position d_head"],
        edits: Scatters,
        keep: Keep = _keep_nothing,
    ) -> Float[Tensor, "cell after d_model"]:
        """What leaves a block at `after`, from what enters it at `before` and `after`; clean keys
        and values are overwritten.

        `keep` is given what is computed on the way, by its kind.
        """
        network, layer, after = self.network, level.layer, level.after
        block, parallel = network.anatomy.blocks[layer], network.anatomy.parallel
        normed = normalise(block.attention_norm, x)
        self._write_keys(_at(normed, level.every, level.before), level, keys, values, edits, keep)
        x, normed = _at(x, level.every, after), _at(normed, level.every, after)
        z = _set(
            self._attend(normed, level, keys, values, edits, keep), after, edits, Point("z", layer)
        )
        out = functional.linear(z.flatten(2), block.W_O.transpose(0, 1).flatten(1), block.b_O.to(z))
        out = out if block.attention_post is None else normalise(block.attention_post, out)
        out = _set(out, after, edits, Point("attn_out", layer))
        mid = _set(x + out, after, edits, Point("resid_mid", layer))
        mlp_in = _set(
            normalise(block.mlp_norm, x if parallel else mid), after, edits, Point("mlp_in", layer)
        )
        mlp_out = network.mlps[layer](mlp_in)
        mlp_out = mlp_out if block.mlp_post is None else normalise(block.mlp_post, mlp_out)
        mlp_out = _set(mlp_out, after, edits, Point("mlp_out", layer))
        for kind, value in (
            ("z", z),
            ("attn_out", out),
            ("resid_mid", mid),
            ("mlp_in", mlp_in),
            ("mlp_out", mlp_out),
        ):
            keep(kind, value)
        return mid + mlp_out

    def _write_keys(
        self,
        normed: Float[Tensor, "cell before d_model"],
        level: Level,
        keys: Float[Tensor, "cell kv_head position d_head"],
        values: Float[Tensor, "cell kv_head position d_head"],
        edits: Scatters,
        keep: Keep,
    ) -> None:
        """Set keys and values at `before`, then those that are edited; edited keys are turned as
        all are."""
        block, rotary = self.network.anatomy.blocks[level.layer], self.network.anatomy.rotary
        if level.before:
            where = torch.tensor(level.before, device=keys.device)
            k, v = _project(normed, block.W_K, block.b_K), _project(normed, block.W_V, block.b_V)
            keep("k", k)
            keep("v", v)
            keys[:, :, where] = (
                k if rotary is None else rotary.rotate(k, where[:, None])
            ).transpose(1, 2)
            values[:, :, where] = v.transpose(1, 2)
        for kind, whole in (("k", keys), ("v", values)):
            edit = edits.get(Point(kind, level.layer))
            if edit is not None:
                turned = edit.values.to(whole)
                if kind == "k" and rotary is not None:
                    turned = rotary.rotate(turned, edit.positions.to(whole.device))
                whole.copy_(edit._replace(values=turned)(whole.transpose(1, 2)).transpose(1, 2))

    def _attend(
        self,
        normed: Float[Tensor, "cell after d_model"],
        level: Level,
        keys: Float[Tensor, "cell kv_head position d_head"],
        values: Float[Tensor, "cell kv_head position d_head"],
        edits: Scatters,
        keep: Keep,
    ) -> Float[Tensor, "cell after head d_head"]:
        """z of the queries at `after`."""
        anatomy, block = self.network.anatomy, self.network.anatomy.blocks[level.layer]
        query = torch.tensor(level.after, device=keys.device)[:, None]
        q = _set(
            _project(normed, block.W_Q, block.b_Q), level.after, edits, Point("q", level.layer)
        )
        keep("q", q)
        q = q if anatomy.rotary is None else anatomy.rotary.rotate(q, query)
        grouped = (
            q.unflatten(2, (anatomy.kv_heads, anatomy.group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        )
        logits = (grouped @ keys.mT).unflatten(2, (anatomy.group, -1)) * anatomy.attention_scale
        if anatomy.attention_cap is not None:
            logits = torch.tanh(logits / anatomy.attention_cap) * anatomy.attention_cap
        seen = anatomy.visible(level.layer, query, torch.arange(keys.shape[2], device=keys.device))
        pattern = logits.masked_fill(~seen, -torch.inf).softmax(-1, dtype=torch.float32).to(values)
        keep("pattern", pattern.flatten(1, 2))
        z = (pattern.flatten(2, 3) @ values).unflatten(2, (anatomy.group, -1))
        return z.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _project(
    normed: Tensor, weight: Float[Tensor, "head d_head d_model"], bias: Float[Tensor, "head d_head"]
) -> Tensor:
    """Every head's projection, [cell, position, head, d_head]."""
    found = functional.linear(normed, weight.flatten(0, 1), bias.flatten().to(normed))
    return found.unflatten(-1, weight.shape[:2])


def _entering(
    stream: Float[Tensor, "prompt position d_model"],
    rows: Int[Tensor, "cell"],
    every: Sequence[int],
    held: Sequence[int],
    x: Float[Tensor, "cell held d_model"],
) -> Float[Tensor, "cell every d_model"]:
    """What enters a layer at `every`: what was computed where it is held, the clean stream
    elsewhere."""
    if tuple(every) == tuple(held):
        return x
    found = stream[rows[:, None], torch.tensor(every, device=stream.device)]
    known = [position for position in held if position in every]
    if known:
        found[:, [every.index(position) for position in known]] = x[
            :, [held.index(position) for position in known]
        ]
    return found


def _at(
    x: Float[Tensor, "cell every d_model"], every: Sequence[int], some: Sequence[int]
) -> Float[Tensor, "cell some d_model"]:
    """x at some of the positions it is held at."""
    return x if len(some) == len(every) else x[:, [every.index(position) for position in some]]


def _set(x: Tensor, positions: Sequence[int], edits: Scatters, *points: Point) -> Tensor:
    """A point, held at these positions, after its edits."""
    for point in points:
        if point in edits:
            x = edits[point].held(positions)(x)
    return x
