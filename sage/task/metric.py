"""Metrics: one number per prompt from the logits at END, answer against foil.

`logit_difference` is the mean logit of the answers minus that of the foils;
`probability_difference` the summed probability of the answers minus that of the foils
(greater-than, and the published figures for agreement). A task may bring its own. Method, sections
0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.errors import unknown
from sage.task.tokens import Tokenized

Metric = Callable[[Tensor, "Sequence[Tokenized]"], Tensor]
Loudest = Callable[[Int[Tensor, "some"]], Int[Tensor, "some"]]

ANSWERS, FOILS = -1, -2


def logit_difference(
    logits: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]
) -> Float[Tensor, "prompt"]:
    """Mean logit of each prompt's answers minus mean logit of its foils."""
    answers, foils = _sets(logits, prompts)
    return answers.mean() - foils.mean()


def probability_difference(
    logits: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]
) -> Float[Tensor, "prompt"]:
    """Summed probability of each prompt's answers minus that of its foils."""
    answers, foils = _sets(logits.log_softmax(-1), prompts)
    return answers.log_sum().exp() - foils.log_sum().exp()


def choice(
    logits: Float[Tensor, "prompt vocab"],
    prompts: Sequence[Tokenized],
    *,
    loudest: Loudest | None = None,
) -> Int[Tensor, "prompt"]:
    """What the model says: the argmax token; for answer sets -1 where the answers' summed
    probability is larger, -2 where the foils' is.

    Of logits of a part of the vocabulary, `loudest` gives the argmax over all of it; it is asked
    about the prompts that need it alone.
    """
    answers, foils = _sets(logits, prompts)
    found = torch.where(answers.log_sum() >= foils.log_sum(), ANSWERS, FOILS)
    single = [
        row
        for row, prompt in enumerate(prompts)
        if len(prompt.answers) == 1 and len(prompt.foils) == 1
    ]
    if single:
        rows = torch.tensor(single, device=logits.device)
        found[rows] = logits.argmax(-1)[rows] if loudest is None else loudest(rows)
    return found


METRICS: dict[str, Metric] = {
    "logit_difference": logit_difference,
    "probability_difference": probability_difference,
}


def find_metric(metric: str | Metric) -> Metric:
    """The metric of that name; a function is taken as it is."""
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    return METRICS[metric]


def reads_answers_and_foils_only(metric: Metric) -> bool:
    """Whether a metric depends on no logits but those of answers and foils."""
    return metric is logit_difference


class AnswerVocabulary(NamedTuple):
    """Every answer and foil of some prompts as a vocabulary of their own, and the prompts as they
    are written in it."""

    tokens: Int[Tensor, "token"]
    prompts: list[Tokenized]


def answer_vocabulary(prompts: Sequence[Tokenized]) -> AnswerVocabulary:
    """The vocabulary of answers and foils."""
    tokens = sorted({token for prompt in prompts for token in (*prompt.answers, *prompt.foils)})
    place = {token: number for number, token in enumerate(tokens)}

    def written(prompt: Tokenized) -> Tokenized:
        return replace(
            prompt,
            answers=tuple(place[t] for t in prompt.answers),
            foils=tuple(place[t] for t in prompt.foils),
        )

    return AnswerVocabulary(torch.tensor(tokens), [written(prompt) for prompt in prompts])


class _Set(NamedTuple):
    """The scores of each prompt's tokens, padded to the largest set."""

    scores: Float[Tensor, "prompt token"]
    present: Bool[Tensor, "prompt token"]

    def mean(self) -> Float[Tensor, "prompt"]:
        return self.scores.masked_fill(~self.present, 0).sum(-1) / self.present.sum(-1)

    def log_sum(self) -> Float[Tensor, "prompt"]:
        return self.scores.masked_fill(~self.present, -torch.inf).logsumexp(-1)


def _sets(scores: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]) -> tuple[_Set, _Set]:
    return _gather(scores, [prompt.answers for prompt in prompts]), _gather(
        scores, [prompt.foils for prompt in prompts]
    )


def _gather(scores: Float[Tensor, "prompt vocab"], tokens: Sequence[Sequence[int]]) -> _Set:
    width = max((len(some) for some in tokens), default=1)
    index = torch.tensor(
        [[*some, *[0] * (width - len(some))] for some in tokens],
        device=scores.device,
        dtype=torch.long,
    ).reshape(-1, width)
    sizes = torch.tensor([len(some) for some in tokens], device=scores.device, dtype=torch.long)
    return _Set(scores.gather(1, index), torch.arange(width, device=scores.device) < sizes[:, None])
