"""Train the embedded SAEs on the embedded models: `python -m sage.zoo.train_saes [NAME ...]`.

One SAE per folder <model>/saes/<suite>/<hook>/ in SAELens format, float16. The tokens are those of
texts like the models' corpus, tasks and filler, without BOS. A training that is interrupted goes on
from its last saved state.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.files import write_json
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.saes.formats import saelens
from sage.saes.releases import SEED, SOFT_FROZEN
from sage.saes.sae import SAE, Fidelity, Stated, measure
from sage.saes.sae_files import read_safetensors, write_safetensors
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.saes.training_settings import TrainingSettings
from sage.task.prompt import Prompt
from sage.zoo.corpus import corpus_texts
from sage.zoo.recipes import RECIPES, ZOO

EXPANSION = 4
TEXTS = 6_000
STEPS = 1_000
BATCH = 256
LEARNING_RATE = 4e-3
SPARSITIES = (4, 8, 16)
SNAPSHOTS = {"step0": 0, "early": 30, "middle": 120, "late": 480}
PENALTIES = {"relu": 2.0, "gated": 2.0, "prolu": 2.0, "jumprelu": 0.5}

# The suite that also ships on its way, from more seeds and with its nulls.
_STUDIED_SUITE, _STUDIED_MODEL = "topk8", "tiny-gpt2"
_SEEDS = 3
# The model that is there to be compared with a larger one, which has topk alone.
_SMALLER_SIZE = "tiny-gpt2-half"
_TRAINING_SEED, _MEASURE_SEED = 1, 2


class SAERecipe(NamedTuple):
    """One SAE to train: its suite, its hook, and what it is."""

    suite: str
    hook: Node
    architecture: str
    k: int = 8
    seed: int = 0
    freeze: str = "none"

    @property
    def hook_folder(self) -> str:
        """The folder of the SAE in that of its suite: `1.resid_pre`."""
        return f"{self.hook.layer}.{self.hook.kind}"


def sae_recipes(model: str, layers: int) -> list[SAERecipe]:
    """The SAEs of a model: topk and relu at every layer, others at the two middle layers.

    Of two layers both are middle ones. One suite of one model has more seeds, and nulls; the
    smaller size of a model has topk alone.
    """
    hooks = [Node("resid_pre", layer) for layer in range(layers)]
    middle = hooks[layers // 2 - 1 : layers // 2 + 1]
    recipes: list[SAERecipe] = []
    for k in SPARSITIES:
        recipes += [SAERecipe(f"topk{k}", hook, "topk", k) for hook in hooks]
    for architecture in PENALTIES if model != _SMALLER_SIZE else ():
        trained_at = hooks if architecture == "relu" else middle
        recipes += [SAERecipe(architecture, hook, architecture) for hook in trained_at]
    if model == _STUDIED_MODEL:
        recipes.append(SAERecipe("topk8-mid", Node("resid_mid", layers // 2), "topk"))
        recipes += _more_seeds_and_nulls(hooks)
    return recipes


def _more_seeds_and_nulls(hooks: Sequence[Node]) -> list[SAERecipe]:
    """The studied suite from its other seeds, and soft-frozen from each of them.

    Suites are numbered from 1, their seeds from 0: `topk8` itself is the first.
    """
    recipes: list[SAERecipe] = []
    for number in range(1, _SEEDS + 1):
        null = f"{_STUDIED_SUITE}-{SOFT_FROZEN}-{number}"
        trained = f"{_STUDIED_SUITE}-{SEED}-{number}"
        for hook in hooks:
            recipes.append(SAERecipe(null, hook, "topk", seed=number - 1, freeze="soft"))
            if number > 1:
                recipes.append(SAERecipe(trained, hook, "topk", seed=number - 1))
    return recipes


def train_all(name: str, *, out: Path, scratch: Path) -> None:
    """Train every SAE of a model and write them below `out`.

    States to go on from and full-precision weights stay in `scratch`.
    """
    model = load_model(name)
    recipes = sae_recipes(name, len(model.anatomy.blocks))
    hooks = sorted({recipe.hook for recipe in recipes})
    seen = _activations(model, hooks, seed=_TRAINING_SEED)
    fresh = _activations(model, hooks, seed=_MEASURE_SEED)
    for recipe in recipes:
        trained = scratch / name / recipe.suite / recipe.hook_folder
        for suite, folder in _train(model, recipe, seen[recipe.hook], trained).items():
            shipped = out / name / "saes" / suite / recipe.hook_folder
            measured = _ship(folder, shipped, fresh[recipe.hook])
            numbers = f"L0 {measured.l0:.1f}, FVU {measured.fvu:.4f}, dead {measured.dead:.2f}"
            sys.stderr.write(f"{name} {suite} {recipe.hook_folder}: {numbers}\n")


def shipped_saes(model: str) -> Iterator[tuple[str, Path]]:
    """The suites and SAE folders of an embedded model, in order."""
    for config in sorted((ZOO / model / "saes").glob(f"*/*/{saelens.CONFIG}")):
        yield config.parts[-3], config.parent


def shipped_fidelity(model: Model, *, texts: int = 1_000) -> dict[tuple[str, str], Fidelity]:
    """L0 and unexplained variance of every shipped SAE, by suite and hook, on fresh text."""
    saes = {
        (suite, folder.name): saelens.load(folder) for suite, folder in shipped_saes(model.name)
    }
    hooks = sorted({sae.hook for sae in saes.values()})
    tokens = _activations(model, hooks, seed=_MEASURE_SEED, texts=texts)
    return {place: measure(sae, tokens[sae.hook]) for place, sae in saes.items()}


def main(names: Sequence[str]) -> None:
    """Train the SAEs of these models, or of all, into this folder; states go to out/zoo."""
    for name in names or RECIPES:
        train_all(name, out=ZOO, scratch=Path("out") / "zoo" / "saes")


def _activations(
    model: Model, hooks: Sequence[Node], *, seed: int, texts: int = TEXTS
) -> dict[Node, Float[Tensor, "token d_model"]]:
    """Every token but BOS of texts like those the model was trained on."""
    prompts = [
        model.tokenize(Prompt(text.text, "", "", {}, {}, {}, (), ()))
        for text in corpus_texts(texts, seed=seed)
    ]
    ends = [len(prompt.ids) for prompt in prompts]
    streams = model.read(hooks, prompts)
    return {
        hook: torch.cat([row[1:end] for row, end in zip(stream, ends, strict=True)])
        for hook, stream in streams.items()
    }


def _train(
    model: Model, recipe: SAERecipe, tokens: Float[Tensor, "token d_model"], out: Path
) -> dict[str, Path]:
    """Train an SAE; the folders it and its snapshots lie in, by the suites they belong to."""
    snapshots = SNAPSHOTS if _has_snapshots(model.name, recipe) else {}
    settings = TrainingSettings(
        recipe.architecture,
        width=EXPANSION * model.anatomy.d_model,
        steps=STEPS,
        batch=BATCH,
        k=recipe.k,
        penalty=PENALTIES.get(recipe.architecture, 0.0),
        learning_rate=LEARNING_RATE,
        decay=STEPS // 5,
        snapshots=tuple(snapshots.values()),
        seed=recipe.seed,
        freeze=recipe.freeze,
    )
    training = Training(settings, model.name, recipe.hook, model.anatomy.d_model, reads_bos=False)
    train(training, shuffled(tokens, batch=BATCH, seed=settings.seed), out=out)
    folders = {recipe.suite: out}
    for moment, step in snapshots.items():
        folders[f"{recipe.suite}-{moment}"] = out / "snapshots" / f"step_{step:06d}"
    return folders


def _has_snapshots(model: str, recipe: SAERecipe) -> bool:
    return (model, recipe.suite) == (_STUDIED_MODEL, _STUDIED_SUITE)


def _ship(trained: Path, folder: Path, tokens: Float[Tensor, "token d_model"]) -> Fidelity:
    """Write an SAE as float16, stating what L0 and unexplained variance it has as such."""
    saelens.save(saelens.load(trained), folder)
    weights, config_file = folder / saelens.WEIGHTS, folder / saelens.CONFIG
    arrays = read_safetensors(weights).values
    write_safetensors(weights, {name: array.half() for name, array in arrays.items()})
    measured = measure(_without_statements(saelens.load(folder)), tokens)
    config = json.loads(config_file.read_text())
    stated = {"l0": round(measured.l0, 2), "fvu": round(measured.fvu, 5)}
    metadata = {**config["metadata"], **stated}
    write_json(config_file, {**config, "dtype": "float16", "metadata": metadata})
    return measured


def _without_statements(sae: SAE) -> SAE:
    """The SAE without what was measured before it was rounded."""
    return replace(sae, stated=Stated(model=sae.stated.model))


if __name__ == "__main__":
    main(sys.argv[1:])
