"""Our own exact forward pass over a model's weights, which computes only what edits can change.

Layers below the lowest edit are not run, nor positions that no edit reaches or that END's logits do
not feel; all else is taken from the clean run of the same prompts. A full forward pass by the
library that loaded the model is its literal twin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sage.memory import PARTIAL_NUMBERS_AT_ONCE, PARTIAL_NUMBERS_AT_ONCE_ON_CPU
from sage.models.anatomy import normalise
from sage.models.edits import Scatter
from sage.models.network import Network
from sage.models.partial.clean import CleanRun
from sage.models.partial.cone import Level, cone
from sage.models.steps import HookPoint

# Floating-point operations that take as long as starting those of one layer.
OVERHEAD = 2.0**31
OVERHEAD_ON_CPU = 2.0**24

Scatters = Mapping[HookPoint, Scatter]
Keep = Callable[[str, Tensor], None]


class EndLogits(NamedTuple):
    """Logits at END, and how many layers were computed, counted once for every token they were
    computed at."""

    logits: Float[Tensor, "run token"]
    token_layers: int


class KeyValues(NamedTuple):
    """One layer's keys (as queries meet them: normed and rotated) and values, at all positions; a
    pass writes its own into them."""

    keys: Float[Tensor, "run kv_head position d_head"]
    values: Float[Tensor, "run kv_head position d_head"]


def _keep_nothing(kind: str, activation: Tensor) -> None:
    del kind, activation


class _LayerPass(NamedTuple):
    """One layer of a pass: what is computed, what is set on the way, and who is shown every
    activation, by its kind."""

    level: Level
    edits: Scatters
    keep: Keep = _keep_nothing

    def edited(self, kind: str, activation: Tensor) -> Tensor:
        """An activation at the positions `after`, with its edits; `keep` is shown it."""
        hook_point = HookPoint(kind, self.level.layer)
        activation = _edited(activation, self.level.after, self.edits, hook_point)
        self.keep(kind, activation)
        return activation


@dataclass(frozen=True, eq=False)
class PartialForward:
    """Runs edits of a model as far as they can change END's logits."""

    network: Network

    @property
    def overhead(self) -> float:
        """What a batch costs for each layer, however small it is, in floating-point operations."""
        return OVERHEAD_ON_CPU if self._on_cpu else OVERHEAD

    @property
    def _on_cpu(self) -> bool:
        return self.network.W_E.device.type == "cpu"

    def runs_at_once(self, length: int, positions: int, *, logits: int) -> int:
        """How many runs fit into one batch, of prompts of this length, computed at this many
        positions, with so many logits each."""
        anatomy = self.network.anatomy
        limit = PARTIAL_NUMBERS_AT_ONCE_ON_CPU if self._on_cpu else PARTIAL_NUMBERS_AT_ONCE
        widest = max(
            2 * length * anatomy.kv_heads * anatomy.d_head,
            positions * (anatomy.d_mlp + anatomy.d_model),
            logits,
        )
        return max(1, limit // widest)

    def run_clean(self, ids: Int[Tensor, "prompt position"], *, first: int = 0) -> CleanRun:
        """The clean run of prompts of one length; layers below `first` are run and not kept."""
        layers, everywhere = self.network.anatomy.layers, tuple(range(ids.shape[1]))
        streams: list[Tensor] = []
        kept: list[KeyValues] = []
        with torch.no_grad():
            x = self.network.embed(ids)
            for layer in range(layers):
                key_values = self._empty_key_values(x)
                if layer >= first:
                    streams.append(x)
                    kept.append(key_values)
                after = everywhere if layer + 1 < layers else everywhere[-1:]
                x = self._block(x, key_values, _LayerPass(Level(layer, everywhere, after), {}))
        keys, values = [layer.keys for layer in kept], [layer.values for layer in kept]
        return CleanRun(first, ids.shape[1], streams, keys, values, x[:, 0])

    def read(
        self, ids: Int[Tensor, "prompt position"], hook_points: Collection[HookPoint]
    ) -> dict[HookPoint, Tensor]:
        """Whole activations in the clean run of prompts of one length; layers above the highest are
        not run."""
        everywhere = tuple(range(ids.shape[1]))
        highest = max(hook_point.layer for hook_point in hook_points)
        activations: dict[HookPoint, Tensor] = {}
        with torch.no_grad():
            x = self.network.embed(ids)
            for layer in range(highest + 1):

                def keep(kind: str, activation: Tensor, layer: int = layer) -> None:
                    if HookPoint(kind, layer) in hook_points:
                        activations[HookPoint(kind, layer)] = activation

                keep("embed", x)
                keep("resid_pre", x)
                layer_pass = _LayerPass(Level(layer, everywhere, everywhere), {}, keep)
                x = self._block(x, self._empty_key_values(x), layer_pass)
                keep("resid_post", x)
        return activations

    def run(
        self,
        clean: CleanRun,
        rows: Int[Tensor, "run"],
        edits: Scatters,
        *,
        token_ids: Int[Tensor, "token"] | None = None,
    ) -> EndLogits:
        """The logits of runs at END, of some tokens where these are given; `rows` are their
        prompts' rows in the clean run."""
        anatomy, end = self.network.anatomy, clean.length - 1
        edited = {place: frozenset(edit.positions.tolist()) for place, edit in edits.items()}
        changed = cone(edited, [block.window for block in anatomy.blocks], clean.length)
        rows = rows.to(clean.last.device)
        # x is the residual stream of the runs, at the positions `held`.
        held: tuple[int, ...] = ()
        x, token_layers = clean.last[rows, None][:, :0], 0
        with torch.no_grad():
            for level in changed.levels:
                if level.needed:
                    layer = clean.at(level.layer)
                    x = _entering(x, held, level.needed, layer.stream, rows)
                    for hook_point in _names_of_entry(level.layer):
                        x = _edited(x, level.needed, edits, hook_point)
                    key_values = KeyValues(layer.keys[rows], layer.values[rows])
                    x = self._block(x, key_values, _LayerPass(level, edits))
                    token_layers += len(rows) * len(level.needed)
                held = level.after
            last = clean.last[rows]
            if changed.last:
                x = x[:, held.index(end), None] if end in held else last[:, None]
                last = _edited(x, (end,), edits, HookPoint("resid_post", anatomy.layers - 1))[:, 0]
            logits = self.network.unembed(last, token_ids)
        return EndLogits(logits, token_layers)

    def _empty_key_values(self, x: Float[Tensor, "prompt position d_model"]) -> KeyValues:
        """Room for one layer's keys and values."""
        anatomy = self.network.anatomy
        keys = x.new_empty(len(x), anatomy.kv_heads, x.shape[1], anatomy.d_head)
        return KeyValues(keys, torch.empty_like(keys))

    def _block(
        self, x: Float[Tensor, "run needed d_model"], key_values: KeyValues, layer_pass: _LayerPass
    ) -> Float[Tensor, "run after d_model"]:
        """What leaves a block at the positions `after`, from what enters it at all needed; clean
        keys and values are overwritten."""
        network, level = self.network, layer_pass.level
        block, parallel = network.anatomy.blocks[level.layer], network.anatomy.parallel
        normed = normalise(block.attention_norm, x)
        self._write_key_values(_at(normed, level.needed, level.before), key_values, layer_pass)
        x, normed = _at(x, level.needed, level.after), _at(normed, level.needed, level.after)

        z = layer_pass.edited("z", self._attend(normed, key_values, layer_pass))
        W_O = rearrange(block.W_O, "head d_model d_head -> d_model (head d_head)")
        attn_out = functional.linear(z.flatten(2), W_O, block.b_O.to(z))
        if block.attention_post is not None:
            attn_out = normalise(block.attention_post, attn_out)
        attn_out = layer_pass.edited("attn_out", attn_out)
        resid_mid = layer_pass.edited("resid_mid", x + attn_out)

        mlp_in = normalise(block.mlp_norm, x if parallel else resid_mid)
        mlp_out = network.mlps[level.layer](layer_pass.edited("mlp_in", mlp_in))
        if block.mlp_post is not None:
            mlp_out = normalise(block.mlp_post, mlp_out)
        return resid_mid + layer_pass.edited("mlp_out", mlp_out)

    def _write_key_values(
        self,
        normed: Float[Tensor, "run before d_model"],
        key_values: KeyValues,
        layer_pass: _LayerPass,
    ) -> None:
        """Set keys and values at the positions `before`, then those that are edited; edited keys
        are normed and turned as all are."""
        level, (keys, values) = layer_pass.level, key_values
        block = self.network.anatomy.blocks[level.layer]
        if level.before:
            positions = torch.tensor(level.before, device=keys.device)
            k, v = _project(normed, block.W_K, block.b_K), _project(normed, block.W_V, block.b_V)
            layer_pass.keep("k", k)
            layer_pass.keep("v", v)
            keys[:, :, positions] = block.key(k, positions[:, None]).transpose(1, 2)
            values[:, :, positions] = v.transpose(1, 2)
        for kind, kept in (("k", keys), ("v", values)):
            edit = layer_pass.edits.get(HookPoint(kind, level.layer))
            if edit is not None:
                new = edit.values.to(kept)
                if kind == "k":
                    new = block.key(new, edit.positions.to(kept.device))
                kept.copy_(edit._replace(values=new)(kept.transpose(1, 2)).transpose(1, 2))

    def _attend(
        self,
        normed: Float[Tensor, "run after d_model"],
        key_values: KeyValues,
        layer_pass: _LayerPass,
    ) -> Float[Tensor, "run after head d_head"]:
        """z of the queries at the positions `after`."""
        anatomy, level, (keys, values) = self.network.anatomy, layer_pass.level, key_values
        block = anatomy.blocks[level.layer]
        query = torch.tensor(level.after, device=keys.device)[:, None]
        key = torch.arange(keys.shape[2], device=keys.device)
        q = layer_pass.edited("q", _project(normed, block.W_Q, block.b_Q))
        q = block.query(q, query)
        q = rearrange(
            q,
            "run query (kv_head group) d_head -> run kv_head (group query) d_head",
            group=anatomy.group,
        )
        logits = rearrange(
            q @ keys.mT,
            "run kv_head (group query) key -> run kv_head group query key",
            group=anatomy.group,
        )
        logits = logits * anatomy.attention_scale
        if anatomy.attention_cap is not None:
            logits = torch.tanh(logits / anatomy.attention_cap) * anatomy.attention_cap
        hidden = ~anatomy.visible(level.layer, query, key)
        pattern = logits.masked_fill(hidden, -torch.inf).softmax(-1, dtype=torch.float32)
        pattern = pattern.to(values)
        layer_pass.keep("pattern", pattern.flatten(1, 2))
        return rearrange(
            pattern.flatten(2, 3) @ values,
            "run kv_head (group query) d_head -> run query (kv_head group) d_head",
            group=anatomy.group,
        )


def _project(
    normed: Float[Tensor, "run position d_model"],
    weight: Float[Tensor, "head d_head d_model"],
    bias: Float[Tensor, "head d_head"],
) -> Float[Tensor, "run position head d_head"]:
    """Every head's projection."""
    projected = functional.linear(normed, weight.flatten(0, 1), bias.flatten().to(normed))
    return projected.unflatten(-1, weight.shape[:2])


def _names_of_entry(layer: int) -> tuple[HookPoint, HookPoint]:
    """The two hook points of what enters a layer."""
    return HookPoint("resid_post", layer - 1), HookPoint("resid_pre", layer)


def _entering(
    x: Float[Tensor, "run held d_model"],
    held: Sequence[int],
    needed: Sequence[int],
    clean_stream: Float[Tensor, "prompt position d_model"],
    rows: Int[Tensor, "run"],
) -> Float[Tensor, "run needed d_model"]:
    """What enters a layer at the positions needed: x where it is held, the clean stream
    elsewhere."""
    if tuple(needed) == tuple(held):
        return x
    entering = clean_stream[rows[:, None], torch.tensor(needed, device=clean_stream.device)]
    computed = [position for position in held if position in needed]
    if computed:
        columns = [needed.index(position) for position in computed]
        entering[:, columns] = x[:, [held.index(position) for position in computed]]
    return entering


def _at(
    x: Float[Tensor, "run held d_model"], held: Sequence[int], wanted: Sequence[int]
) -> Float[Tensor, "run wanted d_model"]:
    """x at some of the positions it is held at."""
    return x if len(wanted) == len(held) else x[:, [held.index(position) for position in wanted]]


def _edited(
    activation: Tensor, positions: Sequence[int], edits: Scatters, hook_point: HookPoint
) -> Tensor:
    """An activation, held at these positions, with its edits."""
    edit = edits.get(hook_point)
    return activation if edit is None else edit.restrict(positions)(activation)
