"""The seam to a model: read, write and gradients at nodes, the same for every backend.

A backend is an `Engine`: it runs whole activations of one batch of equally long prompts. `Model`
turns nodes into the hook points of these, runs prompts of one length together, so that nothing is
ever padded inside a forward pass, and packs many sets of edits into one batch. Results never depend
on batch size or order beyond float32 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.errors import BadTask, SageError
from sage.memory import FORWARD_NUMBERS_AT_ONCE
from sage.models.anatomy import Anatomy
from sage.models.batching import in_batches, rows_by_length
from sage.models.counter import Counter
from sage.models.edits import (
    EditBucket,
    EditedRuns,
    EditSet,
    check_edits,
    edit_bucket,
    every_set_itself,
    find_first_alike,
    hook_point,
    scatter_edits,
)
from sage.models.engine import Engine
from sage.models.partial import PartialForward
from sage.models.partial.batches import batches
from sage.models.partial.clean import CleanRun, CleanRuns
from sage.models.partial.cone import first_layer
from sage.models.precision import check_finite
from sage.models.reading import NodeValues
from sage.models.sinks import PASSAGES, NormsAt, first_is_massive, middle, norms_of
from sage.models.steps import HookPoint
from sage.nodes import EVERYWHERE, Node
from sage.task.metric import (
    AnswerVocabulary,
    Metric,
    answer_vocabulary,
    choice,
    reads_answers_and_foils_only,
)
from sage.task.task import Prompt
from sage.task.tokens import FastTokenizer, Tokenized, tokenize


class EndOfRuns(NamedTuple):
    """What the model says at END in some runs, and the prompts of these.

    With logits of some tokens only, the prompts' answers and foils are columns of `logits`.
    """

    runs: EditedRuns
    prompts: Sequence[Tokenized]
    logits: Float[Tensor, "run token"]


Keep = Callable[[EndOfRuns], None]


class Outcome(NamedTuple):
    """What a model says at END: the metric, the choice (see `sage.task.metric.choice`), and the
    logits where they were asked for."""

    metric: Float[Tensor, "prompt"]
    choice: Int[Tensor, "prompt"]
    logits: Float[Tensor, "prompt vocab"] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A language model that can be read, written and differentiated at nodes; made by
    `sage.load_model`.

    `revision` is the sha256 of the weight files, with `-bos` or `-no-bos` where prompts begin
    otherwise than by default, `bos` whether they begin with the BOS token,
    `backend` the library that runs it with its version, `batch_size` the most prompts to run at
    once (None: as many as keep memory small). `partial` runs edits without computing what they
    cannot change; without it every edit is a whole forward pass of the backend. `positions` is how
    many tokens a prompt may have, None where the model sets no limit. Two of its parts change as it
    is used: `counter` counts the work done, `clean_runs` holds the clean runs that
    `partial` starts from, of the prompts last edited.
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
    partial: PartialForward | None = None
    positions: int | None = None
    clean_runs: CleanRuns = field(default_factory=CleanRuns)

    def __repr__(self) -> str:
        size = f"{self.anatomy.layers} layers of {self.anatomy.d_model} dimensions"
        return f"Model '{self.name}': {size}, {self.backend}, {self.dtype} on {self.device}"

    @property
    def backend(self) -> str:
        """The library that runs the model, with its version."""
        return self.engine.name

    @cached_property
    def sink(self) -> bool:
        """Whether the token at position 0 is one apart, and no feature is sought in it: BOS, or,
        where the model reads none, a token that it makes a sink of all the same (measured, on a few
        sentences)."""
        return self.bos or first_is_massive(self.norms())

    def norms(self) -> list[NormsAt]:
        """How long the streams of first and other tokens are at every hook, the middle of a few
        sentences; not counted as work."""
        hooks = {hook.at(EVERYWHERE): hook_point(hook) for hook in self.anatomy.hooks}
        prompts: list[list[NormsAt]] = []
        for passage in PASSAGES:
            ids = self.tokenizer.backend_tokenizer.encode(passage, add_special_tokens=False).ids
            start = [self.tokenizer.bos_token_id] if self.bos else []
            row = torch.tensor([[*start, *ids]], device=self.device)
            if self.partial is None:
                read = self.engine.forward(row, read=set(hooks.values()))[1]
            else:
                read = self.partial.read(row, set(hooks.values()))
            prompts.append(norms_of({hook: read[point][0] for hook, point in hooks.items()}))
        return middle(prompts)

    def tokenize(self, prompt: Prompt) -> Tokenized:
        """A prompt as this model reads it; BadTask where it has more tokens than the model
        positions."""
        tokenized = tokenize(prompt, self.tokenizer, bos=self.bos)
        if self.positions is not None and len(tokenized.ids) > self.positions:
            raise BadTask(_too_long(tokenized, self.name, self.positions))
        return tokenized

    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """Values at nodes, [prompt, d]; a node at `*` is [prompt, position, d], zero beyond a
        prompt's end; patterns are [prompt, key] at a named query and [prompt, query, key] at `*`.
        """
        self._check(nodes, prompts)
        hook_points = {hook_point(node) for node in nodes}
        if not hook_points:
            return {}

        def activations(rows: Sequence[int]) -> dict[HookPoint, Tensor]:
            ids = self._ids([prompts[row] for row in rows])
            if self.partial is None:
                self._count(ids.numel())
                return self.engine.forward(ids, read=hook_points)[1]
            layers = 1 + max(point.layer for point in hook_points)
            self.counter.count(ids.numel() * layers, layers=self.anatomy.layers)
            return self.partial.read(ids, hook_points)

        values = self._collect(nodes, prompts, activations)
        for value in values.values():
            check_finite(value, self.name, self.dtype)
        return values

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
        hook_points = {hook_point(node) for node in nodes}

        def gradients(rows: Sequence[int]) -> dict[HookPoint, Tensor]:
            batch = [prompts[row] for row in rows]
            ids = self._ids(batch)
            self._count(3 * ids.numel())
            embeddings = None if at is None else at[list(rows), : ids.shape[1]].to(ids.device)
            return self.engine.gradients(
                ids, hook_points, lambda logits: metric(logits, batch), at=embeddings, drop=drop
            )

        return self._collect(nodes, prompts, gradients)

    def write(
        self,
        edits: EditSet,
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        among: Sequence[int] = (),
        logits: bool = False,
    ) -> Outcome:
        """The outcome with the nodes set to these values, [prompt, d], all at once; no edits gives
        the clean run."""
        return self.write_many([edits], prompts, metric, among=among, logits=logits)[0]

    def write_many(
        self,
        edits: Sequence[EditSet],
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        among: Sequence[int] = (),
        logits: bool = False,
    ) -> list[Outcome]:
        """One outcome per set of edits; runs of many sets share a batch.

        The choice is among all answers and foils of the prompts and the tokens in `among`. No
        logits are computed but those that are asked for and those that metric and choice need.
        """
        if not edits:
            return []
        metrics = torch.zeros(len(edits), len(prompts))
        choices = torch.zeros(len(edits), len(prompts), dtype=torch.long)
        all_logits = torch.zeros(len(edits), len(prompts), self.anatomy.d_vocab) if logits else None
        answers = answer_vocabulary(prompts, among)
        vocabulary = None if logits or not self._reads_answers_only(metric) else answers
        token_ids = answers.token_ids
        columns = token_ids if vocabulary is None else torch.arange(len(token_ids))
        columns = columns.to(self.device)

        def keep(end: EndOfRuns) -> None:
            chosen = choice(end.logits, end.prompts, among=columns).cpu()
            if vocabulary is not None:
                chosen = torch.where(chosen < 0, chosen, token_ids[chosen.clamp(min=0)])
            metrics[end.runs.table_index] = metric(end.logits, end.prompts).float().cpu()
            choices[end.runs.table_index] = chosen
            if all_logits is not None:
                all_logits[end.runs.table_index] = end.logits.float().cpu()

        made = self._run(edits, prompts, keep, vocabulary).table_index
        check_finite(metrics, self.name, self.dtype)
        no_logits = [None] * len(edits)
        tables = (
            metrics[made],
            choices[made],
            no_logits if all_logits is None else all_logits[made],
        )
        return [Outcome(*rows) for rows in zip(*tables, strict=True)]

    def measure(
        self, edits: Sequence[EditSet], prompts: Sequence[Tokenized], metric: Metric
    ) -> Float[Tensor, "set prompt"]:
        """The metric alone, of every set of edits.

        Of a metric that reads answers and foils only no other logits are computed.
        """
        metrics = torch.zeros(len(edits), len(prompts))

        def keep(end: EndOfRuns) -> None:
            metrics[end.runs.table_index] = metric(end.logits, end.prompts).float().cpu()

        vocabulary = answer_vocabulary(prompts) if self._reads_answers_only(metric) else None
        made = self._run(edits, prompts, keep, vocabulary)
        check_finite(metrics, self.name, self.dtype)
        return metrics[made.table_index]

    def _reads_answers_only(self, metric: Metric) -> bool:
        """Whether the logits of answers and foils are all that need be computed: not where a metric
        reads others, or the backend computes all of them anyway."""
        return self.partial is not None and reads_answers_and_foils_only(metric)

    def _run(
        self,
        edits: Sequence[EditSet],
        prompts: Sequence[Tokenized],
        keep: Keep,
        vocabulary: AnswerVocabulary | None,
    ) -> EditedRuns:
        """Run every set of edits on every prompt and show `keep` the ends of the runs, batch by
        batch.

        With a vocabulary no other logits are computed, and prompts are written in it. Returns the
        run that was made for every set and prompt, [set, prompt]: our own forward pass does not run
        a set again that repeats an earlier one.
        """
        self._check({node for edit_set in edits for node in edit_set}, prompts)
        check_edits(edits, len(prompts), self.anatomy)
        if self.partial is None:
            first_alike = every_set_itself(len(edits), len(prompts))
        else:
            first_alike = find_first_alike(edits, len(prompts))
            self.clean_runs.start_call()
        token_ids = None
        if vocabulary is not None:
            prompts, token_ids = vocabulary.prompts, vocabulary.token_ids.to(self.device)
        for rows in rows_by_length(prompts):
            bucket = edit_bucket(edits, prompts, rows, first_alike)
            if self.partial is None:
                self._run_wholly(bucket, keep)
            else:
                self._run_partly(self.partial, bucket, keep, token_ids)
        return EditedRuns(first_alike, torch.arange(len(prompts)).expand(len(edits), -1))

    def _run_wholly(self, bucket: EditBucket, keep: Keep) -> None:
        """Make the runs of a bucket by a whole forward pass of the backend for each."""

        def run(runs: EditedRuns) -> None:
            prompts = bucket.prompts_of(runs)
            ids = self._ids(prompts)
            self._count(ids.numel())
            logits, _ = self.engine.forward(ids, write=scatter_edits(bucket, runs))
            keep(EndOfRuns(bucket.among_all(runs), prompts, logits))

        in_batches(bucket.runs_to_make, self._prompts_at_once(bucket.length), run)

    def _run_partly(
        self,
        partial: PartialForward,
        bucket: EditBucket,
        keep: Keep,
        token_ids: Int[Tensor, "token"] | None,
    ) -> None:
        """Make them by our own forward pass, which computes only what the edits change."""
        lowest = first_layer(bucket.hook_points, self.anatomy.layers)
        logits = self.anatomy.d_vocab if token_ids is None else len(token_ids)

        def run_prompts(part: EditBucket) -> None:
            clean = self._clean_run(partial, part.prompts, first=lowest)

            def run(runs: EditedRuns) -> None:
                edits = scatter_edits(part, runs)
                end = partial.run(clean, runs.prompt_index, edits, token_ids=token_ids)
                self.counter.count(end.token_layers, layers=self.anatomy.layers)
                prompts = part.prompts_of(runs)
                keep(EndOfRuns(part.among_all(runs), prompts, end.logits))

            for batch in batches(part, anatomy=self.anatomy, overhead=partial.overhead):
                size = partial.runs_at_once(part.length, batch.positions, logits=logits)
                in_batches(batch.runs, self.batch_size or size, run)

        size = partial.runs_at_once(bucket.length, bucket.length, logits=logits)
        in_batches(bucket, self.batch_size or size, run_prompts)

    def _clean_run(
        self, partial: PartialForward, prompts: Sequence[Tokenized], *, first: int
    ) -> CleanRun:
        """The clean run of prompts of one length from layer `first` up, made once for many
        calls."""

        def run() -> CleanRun:
            ids = self._ids(prompts)
            self._count(ids.numel())
            return partial.run_clean(ids, first=first)

        return self.clean_runs.get(tuple(prompt.ids for prompt in prompts), first, run)

    def _collect(
        self,
        nodes: Collection[Node],
        prompts: Sequence[Tokenized],
        run: Callable[[Sequence[int]], Mapping[HookPoint, Tensor]],
    ) -> dict[Node, Tensor]:
        """Nodes of all prompts, out of what `run` says of each batch of rows."""
        values = NodeValues(nodes, prompts)
        for same_length in rows_by_length(prompts):
            size = self._prompts_at_once(len(prompts[same_length[0]].ids))
            in_batches(same_length, size, lambda rows: values.fill(rows, run(rows)))
        return values.values

    def _prompts_at_once(self, length: int) -> int:
        """How many prompts of a length one whole forward pass takes."""
        numbers = length * self.anatomy.d_model
        return self.batch_size or max(1, FORWARD_NUMBERS_AT_ONCE // numbers)

    def _count(self, tokens: int) -> None:
        """So many tokens went through every layer."""
        self.counter.count(tokens * self.anatomy.layers, layers=self.anatomy.layers)

    def _ids(self, prompts: Sequence[Tokenized]) -> Int[Tensor, "batch position"]:
        return torch.tensor([prompt.ids for prompt in prompts], device=self.device)

    def _check(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> None:
        """SageError for nodes the model does not have and positions a prompt does not have."""
        if not prompts:
            raise SageError("The model was given no prompts. Give at least one.")
        longest = max(prompts, key=lambda prompt: len(prompt.ids))
        if self.positions is not None and len(longest.ids) > self.positions:
            raise SageError(_too_long(longest, self.name, self.positions))
        for node in nodes:
            self.anatomy.check(node)
        for name in {node.position for node in nodes} - {EVERYWHERE}:
            for prompt in prompts:
                if name not in prompt.index:
                    raise SageError(
                        f"'{prompt.prompt.text}' has no position '{name}'. "
                        f"It has: {', '.join(prompt.index)}."
                    )


def _too_long(prompt: Tokenized, name: str, positions: int) -> str:
    return (
        f"'{prompt.prompt.text}' has {len(prompt.ids)} tokens, and {name} has {positions} "
        "positions. Use shorter prompts, or a model with more positions."
    )
