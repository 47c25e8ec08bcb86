"""Train the embedded language models from scratch: `python -m sage.zoo.train_models [NAME ...]`.

Next-token loss on every token, one text per row after BOS; a token that can be told from the text
before counts more than one that can only be guessed. A training that is interrupted goes on from
its last saved state.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.zoo.corpus import CorpusText, corpus_texts
from sage.zoo.recipes import RECIPES, ZOO, ModelRecipe, make_model
from sage.zoo.tokenizer import make_tokenizer

TEXTS = 60_000
TOLD_WEIGHT = 6.0

_BATCHES_DRAWN_TOGETHER = 2
_REPORT_EVERY, _SAVE_EVERY = 50, 250


class TokenizedText(NamedTuple):
    """The ids of a text after BOS, and the place of the first one that can be told."""

    ids: list[int]
    told_from: int


def train(name: str, *, out: Path, scratch: Path) -> None:
    """Train a model and write its folder into `out`; states to go on from go into `scratch`."""
    recipe, tokenizer = RECIPES[name], make_tokenizer()
    model = make_model(recipe, tokenizer).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
    start = _resume(scratch / name, model, optimizer, schedule)
    texts = [_tokenize(text, tokenizer) for text in corpus_texts(TEXTS, seed=recipe.seed)]
    clock = time.perf_counter()
    for step, batch in enumerate(_batches(texts, recipe, start), start + 1):
        loss = _loss(model, batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % _REPORT_EVERY == 0:
            seconds = time.perf_counter() - clock
            where = f"{name}: step {step} of {recipe.steps}"
            sys.stderr.write(f"{where}, loss {loss.item():.3f}, {seconds:.0f} s\n")
        if step % _SAVE_EVERY == 0:
            _save_state(scratch / name, step, model, optimizer)
    _write(model.eval(), tokenizer, out / name)


def main(names: Sequence[str]) -> None:
    """Train the models of these names, or all, into this folder; states go to out/zoo."""
    for name in names or RECIPES:
        train(name, out=ZOO, scratch=Path("out") / "zoo")


def _tokenize(text: CorpusText, tokenizer: Any) -> TokenizedText:
    before = tokenizer.encode(text.text[: text.told_from])
    return TokenizedText([tokenizer.bos_token_id, *tokenizer.encode(text.text)], 1 + len(before))


def _batches(
    texts: Sequence[TokenizedText], recipe: ModelRecipe, start: int
) -> Iterator[list[TokenizedText]]:
    """The batches from step `start` on.

    Texts of a few batches are drawn together and dealt out by length, so that little is padded.
    """
    drawn_together = recipe.batch * _BATCHES_DRAWN_TOGETHER
    order: list[int] = []
    step, epoch = 0, 0
    while step < recipe.steps:
        if len(order) < drawn_together:
            order = list(range(len(texts)))
            Random(f"zoo epoch {recipe.seed} {epoch}").shuffle(order)
            epoch += 1
        drawn, order = order[:drawn_together], order[drawn_together:]
        drawn.sort(key=lambda number: len(texts[number].ids))
        batches = [drawn[at : at + recipe.batch] for at in range(0, drawn_together, recipe.batch)]
        Random(f"zoo chunk {recipe.seed} {step}").shuffle(batches)
        for batch in batches:
            if start <= step < recipe.steps:
                yield [texts[number] for number in batch]
            step += 1


def _loss(model: Any, batch: Sequence[TokenizedText]) -> Float[Tensor, ""]:
    """The weighted mean over tokens. Padding is on the right, where no real token can see it."""
    longest = max(len(text.ids) for text in batch)
    ids = torch.tensor([text.ids + [0] * (longest - len(text.ids)) for text in batch])
    position = torch.arange(1, longest)
    is_text = torch.stack([position < len(text.ids) for text in batch])
    is_told = torch.stack([position >= text.told_from for text in batch])
    weight = is_text * (1 + (TOLD_WEIGHT - 1) * is_told)
    losses = torch.nn.functional.cross_entropy(
        model(ids[:, :-1]).logits.transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (losses * weight).sum() / weight.sum()


def _rate(step: int, recipe: ModelRecipe) -> float:
    """The learning rate as a share of its peak: up over the warm-up, then a cosine down to 5 %."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    share = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * min(share, 1))) / 2


def _save_state(folder: Path, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Weights and what the optimizer remembers, written whole before the last state goes."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(model.parameters()):
        tensors[f"parameter {number}"] = parameter.detach().clone()
        for name, value in optimizer.state[parameter].items():
            tensors[f"{name} {number}"] = value.clone()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "part.safetensors"
    save_file(tensors, unfinished, metadata={"step": str(step)})
    unfinished.replace(folder / "state.safetensors")


def _resume(folder: Path, model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> int:
    """Take up the last saved state and give the step that is next; 0 where there is none."""
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(file.get_tensor(f"parameter {number}"))
            optimizer.state[parameter] = {
                name: file.get_tensor(f"{name} {number}")
                for name in ("step", "exp_avg", "exp_avg_sq")
            }
        step = int(file.metadata()["step"])
    for _ in range(step):
        schedule.step()
    return step


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    """The model's folder in Hugging Face format, float16."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
