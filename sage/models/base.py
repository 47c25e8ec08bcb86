"""The seam to a model: read, write and gradients at nodes, the same for every backend.

A backend is an `Engine`: it runs whole activations ("points") of one batch of equally long prompts.
`Model` turns nodes into points, buckets prompts by length so that nothing is ever padded inside a
forward pass, and packs many edits into one batch. Results never depend on batch size or order
beyond float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.errors import SageError, Unsupported
from sage.models.anatomy import Anatomy
from sage.models.counter import Counter
from sage.models.edits import Cells, Edits, places, point, repeats, scatters
from sage.models.partial import Partial
from sage.models.partial.batches import batches
from sage.models.partial.clean import Clean
from sage.models.partial.cone import first_layer
from sage.models.steps import Point, Step
from sage.nodes import EVERYWHERE, HEAD_KINDS, Node
from sage.task.metric import (
    AnswerVocabulary,
    Loudest,
    Metric,
    answer_vocabulary,
    choice,
    reads_answers_and_foils_only,
)
from sage.task.task import Prompt
from sage.task.tokens import FastTokenizer, Tokenized, tokenize

# Numbers held per activation of the residual stream in one forward pass, unless the user says how
# many prompts to run at once.
NUMBERS_AT_ONCE = 2**20
UNWRITABLE = ("pattern", "embed")

Keep = Callable[[Cells, Tensor, Loudest | None], None]


class Outcome(NamedTuple):
    """What a model says at END: the metric, the choice (see `sage.task.metric.choice`), and the
    logits where they were asked for."""

    metric: Float[Tensor, "prompt"]
    choice: Int[Tensor, "prompt"]
    logits: Float[Tensor, "prompt vocab"] | None


@runtime_checkable
class Engine(Protocol):
    """One backend on one loaded model; ids are equally long prompts without padding."""

    name: str

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        *,
        read: Collection[Point] = (),
        write: Mapping[Point, Step] | None = None,
    ) -> tuple[Float[Tensor, "batch vocab"], dict[Point, Tensor]]:
        """Logits at the last position and the points read, after edits; no graph is kept."""
        ...

    def gradients(
        self,
        ids: Int[Tensor, "batch position"],
        points: Collection[Point],
        objective: Callable[[Tensor], Tensor],
        *,
        at: Float[Tensor, "batch position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[Point, Tensor]:
        """d objective(logits at the last position).sum() / d point. `at` replaces `embed`; `drop`
        cuts the gradient through a layer's sublayer outputs (GradDrop)."""
        ...


@dataclass(frozen=True, eq=False)
class Model:
    """A language model that can be read, written and differentiated at nodes; made by
    `sage.load_model`.

    `revision` is the sha256 of the weight files, `bos` whether prompts begin with the BOS token,
    `backend` the library that runs it with its version, `batch_size` the most prompts to run at
    once (None: as many as keep memory small). `partial` runs edits without computing what they
    cannot change; without it every edit is a whole forward pass of the backend.
    """

    name: str
    revision: str
    anatomy: Anatomy
    tokenizer: FastTokenizer
    bos: bool
    engine: Engine
    device: str
    dtype: str
    batch_size: int | None = None
    counter: Counter = field(default_factory=Counter)
    partial: Partial | None = None

    @property
    def backend(self) -> str:
        """The library that runs the model, with its version."""
        return self.engine.name

    def tokenize(self, prompt: Prompt) -> Tokenized:
        """A prompt as this model reads it."""
        return tokenize(prompt, self.tokenizer, bos=self.bos)

    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """Values at nodes, [prompt, d]; a node at `*` is [prompt, position, d], zero beyond a
        prompt's end; patterns are [prompt, key] at a named query and [prompt, query, key] at `*`.
        """
        self._check(nodes, prompts)
        points = {point(node) for node in nodes}
        if not points:
            return {}

        def run(ids: Tensor, rows: Sequence[int]) -> dict[Point, Tensor]:
            del rows
            if self.partial is None:
                self._count(ids.numel())
                return self.engine.forward(ids, read=points)[1]
            self.counter.count(
                ids.numel() * (1 + max(own.layer for own in points)), layers=self.anatomy.layers
            )
            return self.partial.read(ids, points)

        return self._collect(nodes, prompts, run)

    def gradients(
        self,
        nodes: Collection[Node],
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        at: Float[Tensor, "prompt position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[Node, Tensor]:
        """d metric / d node for each prompt, in the shapes of `read`.

        `at` replaces the embeddings (the point of an integrated gradient); `drop` cuts the gradient
        through the outputs of one layer's attention and MLP (GradDrop).
        """
        self._check(nodes, prompts)
        points = {point(node) for node in nodes}

        def run(ids: Tensor, rows: Sequence[int]) -> dict[Point, Tensor]:
            self._count(3 * ids.numel())
            chosen = [prompts[row] for row in rows]
            start = None if at is None else at[list(rows), : ids.shape[1]].to(ids.device)
            return self.engine.gradients(
                ids, points, lambda logits: metric(logits, chosen), at=start, drop=drop
            )

        return self._collect(nodes, prompts, run)

    def write(
        self,
        edits: Mapping[Node, Tensor],
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        logits: bool = False,
    ) -> Outcome:
        """The outcome with the nodes set to these values, [prompt, d], all at once; no edits gives
        the clean run."""
        return self.write_many([edits], prompts, metric, logits=logits)[0]

    def write_many(
        self,
        edits: Sequence[Mapping[Node, Tensor]],
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        logits: bool = False,
    ) -> list[Outcome]:
        """One outcome per set of edits; rows of many sets run in one batch. No logits are computed
        but those that are asked for and those that metric and choice need."""
        if not edits:
            return []
        metrics = torch.zeros(len(edits), len(prompts))
        choices = torch.zeros(len(edits), len(prompts), dtype=torch.long)
        kept = torch.zeros(len(edits), len(prompts), self.anatomy.d_vocab) if logits else None
        words = None if logits else self._scored(prompts, metric)
        among = prompts if words is None else words.prompts

        def keep(cells: Cells, found: Tensor, loudest: Loudest | None) -> None:
            chosen = [among[row] for row in cells.rows.tolist()]
            metrics[cells.numbers, cells.rows] = metric(found, chosen).float().cpu()
            choices[cells.numbers, cells.rows] = choice(found, chosen, loudest=loudest).cpu()
            if kept is not None:
                kept[cells.numbers, cells.rows] = found.float().cpu()

        same = self._run(edits, prompts, keep, words=words)
        first = (same.numbers, same.rows)
        metrics, choices, kept = (
            metrics[first],
            choices[first],
            None if kept is None else kept[first],
        )
        return [
            Outcome(metrics[number], choices[number], None if kept is None else kept[number])
            for number in range(len(edits))
        ]

    def measure(
        self, edits: Edits, prompts: Sequence[Tokenized], metric: Metric
    ) -> Float[Tensor, "number prompt"]:
        """The metric alone, of every set of edits. Of a metric that reads answers and foils only no
        other logits are computed."""
        metrics = torch.zeros(len(edits), len(prompts))
        words = self._scored(prompts, metric)
        among = prompts if words is None else words.prompts

        def keep(cells: Cells, found: Tensor, loudest: Loudest | None) -> None:
            del loudest
            metrics[cells.numbers, cells.rows] = (
                metric(found, [among[row] for row in cells.rows.tolist()]).float().cpu()
            )

        first = self._run(edits, prompts, keep, words=words)
        return metrics[first.numbers, first.rows]

    def _scored(self, prompts: Sequence[Tokenized], metric: Metric) -> AnswerVocabulary | None:
        """The words whose logits are all that a metric reads; None where it reads others, or the
        backend computes all of them anyway."""
        return (
            answer_vocabulary(prompts)
            if self.partial is not None and reads_answers_and_foils_only(metric)
            else None
        )

    def _run(
        self,
        edits: Edits,
        prompts: Sequence[Tokenized],
        keep: Keep,
        *,
        words: AnswerVocabulary | None,
    ) -> Cells:
        """Run every set of edits on every prompt; `keep` is given the logits of cells of these: of
        all words, or of some and what tells the loudest of all. Returns for every cell the one
        whose logits are its own: sets that repeat the one before are not run again."""
        self._check({node for chosen in edits for node in chosen}, prompts)
        _check_values(edits, len(prompts), self.anatomy)
        rows = torch.arange(len(prompts))
        first = (
            repeats(edits, len(prompts))
            if self.partial
            else torch.arange(len(edits))[:, None].expand(-1, len(prompts))
        )
        if self.partial is not None:
            self.partial.clean.begin()
        for bucket in _buckets(prompts):
            own = [{node: value[bucket] for node, value in chosen.items()} for chosen in edits]
            among, where = [prompts[row] for row in bucket], torch.tensor(bucket)

            def keep_own(
                cells: Cells, logits: Tensor, loudest: Loudest | None, where: Tensor = where
            ) -> None:
                keep(Cells(cells.numbers, where[cells.rows]), logits, loudest)

            if self.partial is None:
                self._run_fully(own, among, keep_own)
            else:
                tokens = None if words is None else words.tokens.to(self.device)
                self._run_partly(self.partial, own, among, first[:, where], keep_own, tokens)
        return Cells(first, rows.expand(len(edits), -1))

    def _run_fully(self, edits: Edits, prompts: Sequence[Tokenized], keep: Keep) -> None:
        """Every set of edits on every prompt, all of one length: a whole forward pass of the
        backend for each."""
        length, where = len(prompts[0].ids), places(edits, prompts)
        cells = Cells(
            torch.arange(len(edits)).repeat_interleave(len(prompts)),
            torch.arange(len(prompts)).repeat(len(edits)),
        )

        def run(part: slice) -> None:
            own = cells.take(part)
            ids = self._ids([prompts[row] for row in own.rows.tolist()])
            self._count(ids.numel())
            keep(
                own,
                self.engine.forward(ids, write=scatters(edits, own, where, length=length))[0],
                None,
            )

        self._in_batches(len(cells), self._at_once(length), run)

    def _run_partly(
        self,
        partial: Partial,
        edits: Edits,
        prompts: Sequence[Tokenized],
        first: Tensor,
        keep: Keep,
        words: Tensor | None,
    ) -> None:
        """The same by our own forward pass, which computes what the edits change, for the sets that
        are the `first` of their kind."""
        length, where = len(prompts[0].ids), places(edits, prompts)
        lowest = first_layer(
            {point(node) for chosen in edits for node in chosen}, self.anatomy.layers
        )

        def run(part: slice) -> None:
            rows = torch.arange(len(prompts))[part]
            clean = self._clean(partial, [prompts[row] for row in rows.tolist()], first=lowest)
            chosen = {number: rows[first[number, rows] == number] for number in range(len(edits))}
            for batch in batches(
                edits, where, chosen, length=length, anatomy=self.anatomy, overhead=partial.overhead
            ):

                def answer(some: slice, cells: Cells = batch.cells) -> None:
                    own = cells.take(some)
                    found = partial.run(
                        clean,
                        own.rows - rows[0],
                        scatters(edits, own, where, length=length),
                        words=words,
                    )
                    self.counter.count(found.token_layers, layers=self.anatomy.layers)
                    keep(own, found.logits, found.loudest)

                self._in_batches(
                    len(batch.cells),
                    self.batch_size or partial.at_once(length, batch.positions),
                    answer,
                )

        self._in_batches(len(prompts), self.batch_size or partial.at_once(length, length), run)

    def _clean(self, partial: Partial, prompts: Sequence[Tokenized], *, first: int) -> Clean:
        """The clean run of prompts of one length from layer `first` up, done once for many calls."""

        def run() -> Clean:
            ids = self._ids(prompts)
            self._count(ids.numel())
            return partial.run_clean(ids, first=first)

        return partial.clean.get(tuple(prompt.ids for prompt in prompts), first, run)

    def _collect(
        self,
        nodes: Collection[Node],
        prompts: Sequence[Tokenized],
        run: Callable[[Tensor, Sequence[int]], dict[Point, Tensor]],
    ) -> dict[Node, Tensor]:
        """Run all prompts, bucket by bucket, and take the nodes out of the points."""
        longest = max(len(prompt.ids) for prompt in prompts)
        found: dict[Node, Tensor] = {}

        def part(rows: Sequence[int]) -> None:
            chosen = [prompts[row] for row in rows]
            points = run(self._ids(chosen), rows)
            for node in nodes:
                value = _take(points[point(node)], node, chosen).detach().float()
                if node not in found:
                    shape = [
                        longest if size == len(chosen[0].ids) and _positional(node, axis) else size
                        for axis, size in enumerate(value.shape)
                    ]
                    found[node] = value.new_zeros(len(prompts), *shape[1:])
                found[node][(list(rows), *(slice(size) for size in value.shape[1:]))] = value

        for bucket in _buckets(prompts):
            self._in_batches(
                len(bucket),
                self._at_once(len(prompts[bucket[0]].ids)),
                lambda some, rows=bucket: part(rows[some]),
            )
        return found

    def _in_batches(self, count: int, size: int, run: Callable[[slice], None]) -> None:
        """Run so many items, `size` at a time: halved, and tried again, where memory does not allow
        it."""
        start = 0
        while start < count:
            try:
                run(slice(start, min(start + size, count)))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or size == 1:
                    raise
                size = max(1, min(size, count - start) // 2)
            else:
                start += size

    def _at_once(self, length: int) -> int:
        """How many prompts of a length one forward pass takes."""
        return self.batch_size or max(1, NUMBERS_AT_ONCE // (length * self.anatomy.d_model))

    def _count(self, tokens: int) -> None:
        """So many tokens went through every layer."""
        self.counter.count(tokens * self.anatomy.layers, layers=self.anatomy.layers)

    def _ids(self, prompts: Sequence[Tokenized]) -> Int[Tensor, "batch position"]:
        return torch.tensor([prompt.ids for prompt in prompts], device=self.device)

    def _check(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> None:
        """SageError for nodes the model does not have and positions a prompt does not have."""
        if not prompts:
            raise SageError("The model was given no prompts. Give at least one.")
        for node in nodes:
            self.anatomy.check(node)
        for name in {node.position for node in nodes} - {EVERYWHERE}:
            for prompt in prompts:
                if name not in prompt.index:
                    raise SageError(
                        f"'{prompt.prompt.text}' has no position '{name}'. It has: {', '.join(prompt.index)}."
                    )


def _positional(node: Node, axis: int) -> bool:
    """Whether an axis of what is read at a node counts positions."""
    if node.kind == "pattern":
        return axis > 0
    return axis == 1 and node.position == EVERYWHERE


def _take(value: Tensor, node: Node, prompts: Sequence[Tokenized]) -> Tensor:
    """One node out of a whole point: its head, its position."""
    if node.kind == "pattern":
        value = value[:, node.head]
    elif node.kind in HEAD_KINDS:
        value = value[:, :, node.head]
    if node.position == EVERYWHERE:
        return value
    return value[range(len(prompts)), [prompt.index[node.position] for prompt in prompts]]


def _buckets(prompts: Sequence[Tokenized]) -> Iterator[list[int]]:
    """Rows of prompts of one length, shortest first, in their order."""
    found: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        found.setdefault(len(prompt.ids), []).append(row)
    return (found[length] for length in sorted(found))


def _check_values(edits: Sequence[Mapping[Node, Tensor]], count: int, anatomy: Anatomy) -> None:
    for chosen in edits:
        for node, value in chosen.items():
            if node.kind in UNWRITABLE:
                raise Unsupported(
                    f"{node} cannot be written; it can be read and differentiated. Write q, k, v or z, or 0.resid_pre."
                )
            if len(value) != count:
                raise SageError(
                    f"{node} was to be set to {len(value)} values for {count} prompts. Give one row per prompt."
                )
            if value.shape[-1] != anatomy.width(node.kind):
                raise SageError(
                    f"{node} is {anatomy.width(node.kind)} wide; the values to set are {value.shape[-1]} wide."
                )


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
