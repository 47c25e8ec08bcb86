"""Measuring fidelity: every SAE in place of the stream at its hook, on the same sequences.

Method, section 8. Clean and ablated runs are made once for all SAEs of a hook. Ablated are the very
positions that an SAE's reconstruction stands at, so that an SAE which returns the mean recovers
nothing of what mean ablation loses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.fidelity.measures import COLUMNS, RUNS
from sage.fidelity.reconstruction import (
    GROUPS,
    TOKEN_SUMS,
    latent_shares,
    reconstruct_tokens,
)
from sage.fidelity.result import FidelityResult, MeasuredSAE, TextInfo
from sage.fidelity.sequences import NextTokens, Sequences, targets
from sage.fidelity.splice import (
    Place,
    Replaced,
    Said,
    Streams,
    compare_logits,
    network_of,
    run_streams,
)
from sage.memory import FORWARD_NUMBERS_AT_ONCE
from sage.models.base import Model
from sage.models.batching import in_batches, rows_by_length
from sage.models.network import Network
from sage.nodes import Node
from sage.progress import advance, expect, stage
from sage.record import model_info
from sage.saes.sae import SAE, hook_label
from sage.saes.suite import Suite, on_model
from sage.store.key import digest

ABLATIONS = ("zero", "mean")


class _Key(NamedTuple):
    """A run of a batch: an SAE of a suite, or an ablation, at a place."""

    what: str
    place: Place


@dataclass(eq=False)
class _Table:
    """What is measured of one SAE, filled batch by batch."""

    suite: str
    sae: SAE
    place: Place
    columns: Float[np.ndarray, "sequence column"]
    active: Tensor
    tokens: Tensor = field(default_factory=lambda: torch.zeros(GROUPS, dtype=torch.long))

    @property
    def key(self) -> _Key:
        """Its run."""
        return _Key(self.suite, self.place)


class _Batch(NamedTuple):
    """Sequences of one length: their rows among all, what they are asked for, the clean run."""

    rows: Sequence[int]
    ids: Tensor
    asked: NextTokens
    clean: Streams


class _Measured(NamedTuple):
    """One SAE on one batch: what it makes of each position replaced, and the counts of its
    latents."""

    x_hat: Float[Tensor, "sequence replaced d_model"]
    sums: Float[Tensor, "sequence column"]
    active: Tensor
    tokens: Tensor


def measure_fidelity(model: Model, suites: Sequence[Suite], sequences: Sequences) -> FidelityResult:
    """The fidelity of every SAE of the suites, each by itself at its hook, with the error over
    sequences.

    SageError for no suite, two of one name, and a single sequence; Unsupported for a model without
    its weights on this machine.
    """
    names = [suite.id for suite in suites]
    if not suites or len(set(names)) < len(names):
        raise SageError(f"Give suites of different names, at least one; given: {names or 'none'}.")
    if len({prompt.ids for prompt in sequences.prompts}) < 2:
        raise SageError(
            f"{sequences.source} has one sequence, and an error over sequences takes two. "
            "Give more text, or shorter sequences."
        )
    network = network_of(model)
    placed = [on_model(suite, model.anatomy, model.device) for suite in suites]
    with stage(f"fidelity on {sequences.source}"):
        measuring = _Measuring(model, network, sequences, _tables(model, placed, sequences))
        expect(2 * len(sequences.prompts))
        measuring.means = _means(model, measuring.places, sequences)
        for rows in rows_by_length(sequences.prompts):
            size = _sequences_at_once(model, len(sequences.prompts[rows[0]].ids))
            in_batches(rows, size, measuring.measure_batch)
    return FidelityResult(
        model_info(model),
        _text_info(sequences),
        tuple(digest(prompt.ids) for prompt in sequences.prompts),
        tuple(_measured_sae(table) for table in measuring.tables),
    )


@dataclass(eq=False)
class _Measuring:
    """One measurement under way."""

    model: Model
    network: Network
    sequences: Sequences
    tables: list[_Table]
    means: dict[Place, Tensor] = field(default_factory=dict[Place, Tensor])

    @property
    def places(self) -> list[Place]:
        """Where SAEs stand, each place once."""
        return list(dict.fromkeys(table.place for table in self.tables))

    def measure_batch(self, rows: Sequence[int]) -> None:
        """All runs of some sequences of one length."""
        prompts = [self.sequences.prompts[row] for row in rows]
        ids = torch.tensor([prompt.ids for prompt in prompts], device=self.model.device)
        layers = self.model.anatomy.layers
        points = {place.hook_point(layers) for place in self.places}
        asked = targets(prompts, self.sequences.asked, bos=self.model.bos)
        batch = _Batch(rows, ids, asked, run_streams(self.model, ids, read=points))
        measured = {table.key: self._measure(table, batch) for table in self.tables}
        runs = {key: self._run(key.place, one.x_hat, batch) for key, one in measured.items()}
        for place in self.places:
            mean = self.means[place]
            runs[_Key("zero", place)] = self._run(place, torch.zeros_like(mean), batch)
            runs[_Key("mean", place)] = self._run(place, mean, batch)
        positions = asked.positions.to(ids.device)
        unmodified = batch.clean.last[:, positions]
        clean, said = compare_logits(self.network, unmodified, runs, asked)
        for table in self.tables:
            by_run = [said[_Key(what, table.place)] for what in (table.suite, *ABLATIONS)]
            _fill(table, batch, measured[table.key], [clean, *by_run])
        advance(len(rows))

    def _measure(self, table: _Table, batch: _Batch) -> _Measured:
        """What an SAE makes of the clean stream at its hook."""
        place = table.place
        point = place.hook_point(self.model.anatomy.layers)
        x = batch.clean.read[point][:, place.first_replaced :]
        skipped = place.first_measured(bos=self.model.sink) - place.first_replaced
        counted = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        counted[:, :skipped] = False
        group = torch.tensor(batch.rows, device=x.device) % GROUPS
        with torch.no_grad():
            tokens = reconstruct_tokens(
                table.sae,
                x.flatten(0, 1),
                self.means[place],
                group[:, None].expand(x.shape[:2]).flatten(),
                counted.flatten(),
            )
        measured = tokens.measured.unflatten(0, x.shape[:2])[:, skipped:].cpu().double()
        per_group = torch.zeros(GROUPS, dtype=torch.long)
        per_group.index_add_(0, group.cpu(), counted.sum(-1).cpu())
        x_hat = tokens.x_hat.unflatten(0, x.shape[:2])
        return _Measured(x_hat, measured.sum(1), tokens.active.cpu(), per_group)

    def _run(self, place: Place, stream: Tensor, batch: _Batch) -> Tensor:
        """What leaves the last block at the positions asked, with a stream put in at a place."""
        point = place.hook_point(self.model.anatomy.layers)
        write = {point: Replaced(stream, place.first_replaced)}
        last = run_streams(self.model, batch.ids, write=write).last
        return last[:, batch.asked.positions.to(last.device)]


def _tables(model: Model, suites: Iterable[Suite], sequences: Sequences) -> list[_Table]:
    """An empty table for every SAE."""
    tables: list[_Table] = []
    for suite in suites:
        for site, sae in suite.saes.items():
            _check_site(model, site, sae)
            columns = np.zeros((len(sequences.prompts), len(COLUMNS)))
            active = torch.zeros(GROUPS, sae.width, dtype=torch.int32)
            place = Place(site, sae.passes_first(bos=model.sink))
            tables.append(_Table(suite.id, sae, place, columns, active))
    return tables


def _check_site(model: Model, site: Node, sae: SAE) -> None:
    """SageError for an SAE of a layer that the model does not have."""
    layers = model.anatomy.layers
    if site != Node("resid_pre", layers) and site not in model.anatomy.hooks:
        raise SageError(
            f"SAE '{sae.id}' reads {sae.hook}, which {model.name} ({layers} layers) does not have "
            "or does not add to. Name SAEs of this model."
        )


def _means(
    model: Model, places: Sequence[Place], sequences: Sequences
) -> dict[Place, Float[Tensor, " d_model"]]:
    """The mean stream at every place over the tokens measured there, summed in float64."""
    layers, width = model.anatomy.layers, model.anatomy.d_model
    totals = {place: torch.zeros(width, dtype=torch.float64) for place in places}
    counts = dict.fromkeys(places, 0)

    def add(rows: Sequence[int]) -> None:
        ids = torch.tensor([sequences.prompts[row].ids for row in rows], device=model.device)
        read = run_streams(model, ids, read={place.hook_point(layers) for place in places}).read
        for place in places:
            first = place.first_measured(bos=model.sink)
            x = read[place.hook_point(layers)][:, first:].cpu().double().flatten(0, 1)
            totals[place] += x.sum(0)
            counts[place] += len(x)
        advance(len(rows))

    for rows in rows_by_length(sequences.prompts):
        in_batches(rows, _sequences_at_once(model, len(sequences.prompts[rows[0]].ids)), add)
    return {place: (totals[place] / counts[place]).float().to(model.device) for place in places}


def _fill(table: _Table, batch: _Batch, measured: _Measured, said: Sequence[Said]) -> None:
    """Write what a batch came to into an SAE's table; `said` by the unmodified run, with the SAE,
    zeroed, at the mean."""
    rows = list(batch.rows)
    sequences = len(rows)
    by_column: dict[str, Tensor] = {
        "scored": torch.full((sequences,), float(len(batch.asked.positions))),
        "tokens": measured.tokens.sum().double().expand(sequences) / sequences,
        "cross_entropy": said[0].cross_entropy,
        **dict(zip(TOKEN_SUMS, measured.sums.unbind(-1), strict=True)),
    }
    for run, one in zip(RUNS, said[1:], strict=True):
        by_column[f"cross_entropy_{run}"] = one.cross_entropy
        by_column[f"kl_{run}"] = one.kl
    table.columns[rows] = np.stack([by_column[name].numpy() for name in COLUMNS], -1)
    table.active += measured.active
    table.tokens += measured.tokens


def _sequences_at_once(model: Model, length: int) -> int:
    """How many sequences of a length one whole forward pass takes."""
    numbers = length * model.anatomy.d_model
    return model.batch_size or max(1, FORWARD_NUMBERS_AT_ONCE // numbers)


def _text_info(sequences: Sequences) -> TextInfo:
    return TextInfo(
        source=sequences.source,
        asked=sequences.asked,
        sequences=len(sequences.prompts),
        longest=max(len(prompt.ids) for prompt in sequences.prompts),
        sha256=digest([prompt.ids for prompt in sequences.prompts]),
    )


def _measured_sae(table: _Table) -> MeasuredSAE:
    dead, dense = latent_shares(table.active, table.tokens)
    sae = table.sae
    return MeasuredSAE(
        suite=table.suite,
        id=sae.id,
        hook=hook_label(sae.hook),
        architecture=sae.encoder.name,
        width=sae.width,
        columns=table.columns,
        dead=dead,
        dense=dense,
    )
