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

ANSWERS, FOILS = -1, -2


def logit_difference(
    logits: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]
) -> Float[Tensor, "prompt"]:
    """Mean logit of each prompt's answers minus mean logit of its foils."""
    answers, foils = _answers_and_foils(logits, prompts)
    return answers.mean() - foils.mean()


def probability_difference(
    logits: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]
) -> Float[Tensor, "prompt"]:
    """Summed probability of each prompt's answers minus that of its foils."""
    answers, foils = _answers_and_foils(logits.log_softmax(-1), prompts)
    return answers.log_sum().exp() - foils.log_sum().exp()


def choice(
    logits: Float[Tensor, "prompt token"],
    prompts: Sequence[Tokenized],
    *,
    among: Int[Tensor, "answer"],
) -> Int[Tensor, "prompt"]:
    """What the model says: the loudest of the tokens in `among`, or between answer sets the
    likelier one.

    Where a prompt has several answers or foils it is -1 if the answers' summed probability is
    larger, -2 if the foils' is.
    """
    answers, foils = _answers_and_foils(logits, prompts)
    likelier = torch.where(answers.log_sum() >= foils.log_sum(), ANSWERS, FOILS)
    single = [len(prompt.answers) == len(prompt.foils) == 1 for prompt in prompts]
    loudest = among[logits[:, among].argmax(-1)]
    return torch.where(torch.tensor(single, device=logits.device), loudest, likelier)


METRICS: dict[str, Metric] = {
    "logit_difference": logit_difference,
    "probability_difference": probability_difference,
}


def find_metric(metric: str | Metric) -> Metric:
    """The metric of that name (UnknownName where there is none); a function is taken as it is."""
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    return METRICS[metric]


def reads_answers_and_foils_only(metric: Metric) -> bool:
    """Whether a metric depends on no logits but those of answers and foils."""
    return metric is logit_difference


class AnswerVocabulary(NamedTuple):
    """Every answer and foil of some prompts as a vocabulary of their own.

    Entry i stands for the model's token `token_ids[i]`. In `prompts` the answers and foils are
    entries of this vocabulary.
    """

    token_ids: Int[Tensor, "entry"]
    prompts: list[Tokenized]


def answer_vocabulary(prompts: Sequence[Tokenized], among: Sequence[int] = ()) -> AnswerVocabulary:
    """The vocabulary of answers, foils and the tokens in `among`, in the order of their token
    ids."""
    used = set(among)
    for prompt in prompts:
        used.update(prompt.answers, prompt.foils)
    token_ids = sorted(used)
    entry = {token_id: number for number, token_id in enumerate(token_ids)}
    rewritten = [
        replace(
            prompt,
            answers=tuple(map(entry.__getitem__, prompt.answers)),
            foils=tuple(map(entry.__getitem__, prompt.foils)),
        )
        for prompt in prompts
    ]
    return AnswerVocabulary(torch.tensor(token_ids), rewritten)


class _TokenSets(NamedTuple):
    """The scores of one set of tokens for each prompt, padded to the largest set."""

    scores: Float[Tensor, "prompt token"]
    present: Bool[Tensor, "prompt token"]

    def mean(self) -> Float[Tensor, "prompt"]:
        return self.scores.masked_fill(~self.present, 0).sum(-1) / self.present.sum(-1)

    def log_sum(self) -> Float[Tensor, "prompt"]:
        """The logarithm of the sum of exponentials."""
        return self.scores.masked_fill(~self.present, -torch.inf).logsumexp(-1)


def _answers_and_foils(
    scores: Float[Tensor, "prompt vocab"], prompts: Sequence[Tokenized]
) -> tuple[_TokenSets, _TokenSets]:
    answers = _gather(scores, [prompt.answers for prompt in prompts])
    return answers, _gather(scores, [prompt.foils for prompt in prompts])


def _gather(
    scores: Float[Tensor, "prompt vocab"], token_sets: Sequence[Sequence[int]]
) -> _TokenSets:
    device = scores.device
    width = max(map(len, token_sets), default=1)
    padded = [[*tokens, *[0] * (width - len(tokens))] for tokens in token_sets]
    index = torch.tensor(padded, device=device, dtype=torch.long).reshape(-1, width)
    sizes = torch.tensor(list(map(len, token_sets)), device=device, dtype=torch.long)
    present = torch.arange(width, device=device) < sizes[:, None]
    return _TokenSets(scores.gather(1, index), present)
