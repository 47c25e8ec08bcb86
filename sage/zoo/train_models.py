"""Train the embedded language models from scratch: `python -m sage.zoo.train_models [NAME ...]`.

Scale models of Pythia, GPT-2 and Gemma 2 in their own architectures, of rising size. Next-token
loss on every token, one text per row after BOS; a token that can be told from the text before
counts more than one that can only be guessed. A training that is interrupted goes on from its last
saved state.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sage.models.families import families
from sage.zoo.corpus import Row, rows
from sage.zoo.tokenizer import make_tokenizer

ZOO = Path(__file__).parent
POSITIONS = 64
ROWS = 60_000
KNOWN_WEIGHT = 6.0
MATCH_STD, COPY_STD = 0.06, 0.04

_CHUNK = 2
_SAVE_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a model becomes, apart from the corpus."""

    family: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1.5e-3
    seed: int = 0
    warm_up: int = 100
    weight_decay: float = 0.05


RECIPES = {
    "tiny-neox": Recipe(
        "neox",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "rotary_pct": 0.5,
        },
        steps=3000,
        learning_rate=2e-3,
    ),
    "tiny-gpt2": Recipe("gpt2", {"n_embd": 128, "n_layer": 4, "n_head": 4}, steps=1500),
    "tiny-gemma2": Recipe(
        "gemma2",
        {
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 448,
            "query_pre_attn_scalar": 32,
            "sliding_window": 32,
        },
        steps=2200,
    ),
}


def make_model(recipe: Recipe, tokenizer: Any) -> Any:
    """The untrained model of a recipe, in Hugging Face's own class."""
    import transformers

    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "neox": (
            transformers.GPTNeoXConfig,
            transformers.GPTNeoXForCausalLM,
            {"max_position_embeddings": POSITIONS, "use_parallel_residual": True},
        ),
        "gpt2": (
            transformers.GPT2Config,
            transformers.GPT2LMHeadModel,
            {"n_positions": POSITIONS, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        ),
        "gemma2": (
            transformers.Gemma2Config,
            transformers.Gemma2ForCausalLM,
            {"max_position_embeddings": POSITIONS},
        ),
    }
    make_config, make, fixed = kinds[recipe.family]
    bos = tokenizer.bos_token_id
    shared = {
        "vocab_size": len(tokenizer),
        "bos_token_id": bos,
        "eos_token_id": bos,
        "pad_token_id": None,
        "sage_bos": True,
        "initializer_range": 0.04,
    }
    torch.manual_seed(recipe.seed)
    model = make(make_config(**shared, **fixed, **recipe.config))
    _mimic(model, recipe.family)
    return model


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
    texts = [_read(row, tokenizer) for row in rows(ROWS, seed=recipe.seed)]
    clock = time.perf_counter()
    for step, batch in enumerate(_batches(texts, recipe, start), start):
        loss = _loss(model, batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            sys.stderr.write(
                f"{name}: step {step + 1} of {recipe.steps}, loss {loss.item():.3f}, {time.perf_counter() - clock:.0f} s\n"
            )
        if (step + 1) % _SAVE_EVERY == 0:
            _save_state(scratch / name, step + 1, model, optimizer)
    _write(model.eval(), tokenizer, out / name)


def main(names: Sequence[str]) -> None:
    """Train the models of these names, or all, into this folder; states go to out/zoo."""
    for name in names or RECIPES:
        train(name, out=ZOO, scratch=Path("out") / "zoo")


def _mimic(model: Any, family: str) -> None:
    """Start where trained models end (Trockman and Kolter 2023, arXiv 2305.09828): even heads
    attend to equal tokens, odd heads copy.

    Keys equal queries in the former; in the latter the output map is the transpose of the value
    map. Output embeddings start as input ones.
    """
    config = model.config
    scale = (128 / config.hidden_size) ** 0.5
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(model.get_input_embeddings().weight)
        for block in model.get_submodule(families()[config.model_type].blocks):
            query, key, value, output = _heads(block, config, family)
            query.normal_(std=MATCH_STD * scale)
            key[::2] = query[::2]
            value.normal_(std=COPY_STD * scale)
            output[1::2] = value[1::2]


def _heads(block: Any, config: Any, family: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of a block's query, key, value and output maps, [head, d_head, d_model]; one query head
    for each head of keys."""
    heads = config.num_attention_heads
    if family == "gpt2":
        query, key, value = (
            part.T.unflatten(0, (heads, -1)) for part in block.attn.c_attn.weight.chunk(3, dim=1)
        )
        return query, key, value, block.attn.c_proj.weight.unflatten(0, (heads, -1))
    if family == "neox":
        query, key, value = block.attention.query_key_value.weight.unflatten(
            0, (heads, 3, -1)
        ).unbind(1)
        return query, key, value, block.attention.dense.weight.T.unflatten(0, (heads, -1))
    groups, attention = heads // config.num_key_value_heads, block.self_attn
    key, value = (
        part.weight.unflatten(0, (config.num_key_value_heads, -1))
        for part in (attention.k_proj, attention.v_proj)
    )
    query, output = (
        attention.q_proj.weight.unflatten(0, (heads, -1)),
        attention.o_proj.weight.T.unflatten(0, (heads, -1)),
    )
    return query[::groups], key, value, output[::groups]


class _Text(NamedTuple):
    """The ids of a text after BOS, and the place of the first one that can be told."""

    ids: list[int]
    known: int


def _read(row: Row, tokenizer: Any) -> _Text:
    before = tokenizer.encode(row.text[: row.known])
    return _Text([tokenizer.bos_token_id, *tokenizer.encode(row.text)], 1 + len(before))


def _batches(texts: Sequence[_Text], recipe: Recipe, start: int) -> Iterator[list[_Text]]:
    """The batches from step `start` on: rows of a few batches drawn together and dealt out by
    length, so that little is padded."""
    chunk, order, step = recipe.batch * _CHUNK, list[int](), 0
    epoch = 0
    while step < recipe.steps:
        if len(order) < chunk:
            order = list(range(len(texts)))
            Random(f"zoo epoch {recipe.seed} {epoch}").shuffle(order)
            epoch += 1
        drawn, order = sorted(order[:chunk], key=lambda row: len(texts[row].ids)), order[chunk:]
        parts = [drawn[at : at + recipe.batch] for at in range(0, chunk, recipe.batch)]
        Random(f"zoo chunk {recipe.seed} {step}").shuffle(parts)
        for part in parts:
            if start <= step < recipe.steps:
                yield [texts[row] for row in part]
            step += 1


def _loss(model: Any, batch: Sequence[_Text]) -> Tensor:
    """The weighted mean over tokens. Padding is on the right, where no real token can see it."""
    longest = max(len(text.ids) for text in batch)
    ids = torch.tensor([[*text.ids, *[0] * (longest - len(text.ids))] for text in batch])
    place = torch.arange(1, longest)
    weight = torch.stack(
        [
            (place < len(text.ids)) * (1 + (KNOWN_WEIGHT - 1) * (place >= text.known))
            for text in batch
        ]
    )
    losses = torch.nn.functional.cross_entropy(
        model(ids[:, :-1]).logits.transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (losses * weight).sum() / weight.sum()


def _rate(step: int, recipe: Recipe) -> float:
    """Up over the warm-up, then along a cosine down to 5 %."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    share = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * min(share, 1))) / 2


def _save_state(folder: Path, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Weights and what the optimizer remembers, written whole before it takes the last state's
    place."""
    from safetensors.torch import save_file

    numbered = list(model.parameters())
    tensors = {
        f"parameter {place}": parameter.detach().clone() for place, parameter in enumerate(numbered)
    }
    for place, parameter in enumerate(numbered):
        tensors |= {
            f"{name} {place}": value.clone() for name, value in optimizer.state[parameter].items()
        }
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.safetensors"
    save_file(tensors, part, metadata={"step": str(step)})
    part.replace(folder / "state.safetensors")


def _resume(folder: Path, model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> int:
    """Take up the last saved state and give the step that is next; 0 where there is none."""
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            parameter.copy_(file.get_tensor(f"parameter {place}"))
            optimizer.state[parameter] = {
                name: file.get_tensor(f"{name} {place}")
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
