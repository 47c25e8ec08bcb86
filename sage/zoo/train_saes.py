"""Train the embedded SAEs on the embedded models: `python -m sage.zoo.train_saes [NAME ...]`.

One SAE per folder <model>/saes/<suite>/<hook>/ in SAELens format, float16. The tokens are those of
texts like the models' corpus, tasks and filler, without BOS. A training that is interrupted goes on
from its last saved state.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.saes.formats import saelens
from sage.saes.formats.reading import read_safetensors, write_json, write_safetensors
from sage.saes.sae import SAE, Fidelity, Stated, measure
from sage.saes.train import Training, shuffled, train
from sage.task.prompt import Prompt
from sage.zoo.corpus import rows
from sage.zoo.train_models import RECIPES, ZOO

EXPANSION = 4
TEXTS = 6_000
STEPS = 1_000
BATCH = 256
LEARNING_RATE = 4e-3
SPARSITIES = (4, 8, 16)
SNAPSHOTS = {"step0": 0, "early": 30, "middle": 120, "late": 480}
PENALTIES = {"relu": 2.0, "gated": 2.0, "prolu": 2.0, "jumprelu": 0.5}

_SNAPSHOT_SUITE, _SNAPSHOT_MODEL = "topk8", "tiny-gpt2"
_TRAINING_SEED, _MEASURE_SEED = 1, 2


class Plan(NamedTuple):
    """One SAE to train: its suite, its hook, and what it is."""

    suite: str
    hook: Node
    architecture: str
    k: int = 8


def plans(model: str, layers: int) -> list[Plan]:
    """The SAEs of a model: topk and relu at every layer, the others at the two middle layers, which
    in the smallest model are all."""
    hooks = [Node("resid_pre", layer) for layer in range(layers)]
    some = hooks[layers // 2 - 1 : layers // 2 + 1]
    found = [Plan(f"topk{k}", hook, "topk", k) for k in SPARSITIES for hook in hooks]
    found += [Plan("relu", hook, "relu") for hook in hooks]
    found += [Plan(name, hook, name) for name in PENALTIES if name != "relu" for hook in some]
    if model == _SNAPSHOT_MODEL:
        found.append(Plan("topk8-mid", Node("resid_mid", layers // 2), "topk"))
    return found


def activations(
    model: Model, hooks: Sequence[Node], *, seed: int, texts: int = TEXTS
) -> dict[Node, Float[Tensor, "token d_model"]]:
    """Every token but BOS of texts like those the model was trained on."""
    prompts = [
        model.tokenize(Prompt(row.text, "", "", {}, {}, {}, (), ()))
        for row in rows(texts, seed=seed)
    ]
    streams = model.read(hooks, prompts)
    return {
        hook: torch.cat([row[1 : len(p.ids)] for row, p in zip(stream, prompts, strict=True)])
        for hook, stream in streams.items()
    }


def train_suite(name: str, *, out: Path, scratch: Path) -> None:
    """Train every SAE of a model and write them below `out`; states and full-precision weights stay
    in `scratch`."""
    model = load_model(name)
    wanted = plans(name, len(model.anatomy.blocks))
    hooks = sorted({plan.hook for plan in wanted})
    known, fresh = (
        activations(model, hooks, seed=seed) for seed in (_TRAINING_SEED, _MEASURE_SEED)
    )
    for plan in wanted:
        snapshots = SNAPSHOTS if (plan.suite, name) == (_SNAPSHOT_SUITE, _SNAPSHOT_MODEL) else {}
        training = _training(name, plan, model.anatomy.d_model, snapshots)
        place = scratch / name / plan.suite / _label(plan.hook)
        train(training, shuffled(known[plan.hook], batch=BATCH, seed=training.seed), out=place)
        moments = {
            f"{plan.suite}-{when}": place / "snapshots" / f"step_{step:06d}"
            for when, step in snapshots.items()
        }
        for suite, folder in {plan.suite: place, **moments}.items():
            found = _ship(folder, out / name / "saes" / suite / _label(plan.hook), fresh[plan.hook])
            sys.stderr.write(
                f"{name} {suite} {_label(plan.hook)}: L0 {found.l0:.1f}, FVU {found.fvu:.4f}, dead {found.dead:.2f}\n"
            )


def shipped(model: str) -> Iterator[tuple[str, Path]]:
    """The suites and SAE folders of an embedded model, in order."""
    for config in sorted((ZOO / model / "saes").glob(f"*/*/{saelens.CONFIG}")):
        yield config.parts[-3], config.parent


def fidelity(model: Model, *, texts: int = 1_000) -> dict[tuple[str, str], Fidelity]:
    """L0 and unexplained variance of every shipped SAE of a model, by suite and hook, on fresh
    text."""
    saes = {(suite, folder.name): saelens.load(folder) for suite, folder in shipped(model.name)}
    tokens = activations(
        model, sorted({sae.hook for sae in saes.values()}), seed=_MEASURE_SEED, texts=texts
    )
    return {place: measure(sae, tokens[sae.hook]) for place, sae in saes.items()}


def main(names: Sequence[str]) -> None:
    """Train the SAEs of these models, or of all, into this folder; states go to out/zoo."""
    for name in names or RECIPES:
        train_suite(name, out=ZOO, scratch=Path("out") / "zoo" / "saes")


def _training(model: str, plan: Plan, d_model: int, snapshots: Mapping[str, int]) -> Training:
    return Training(
        architecture=plan.architecture,
        model=model,
        hook=plan.hook,
        d_model=d_model,
        width=EXPANSION * d_model,
        steps=STEPS,
        batch=BATCH,
        k=plan.k,
        penalty=PENALTIES.get(plan.architecture, 0.0),
        learning_rate=LEARNING_RATE,
        decay=STEPS // 5,
        reads_bos=False,
        snapshots=tuple(snapshots.values()),
    )


def _label(hook: Node) -> str:
    return f"{hook.layer}.{hook.kind}"


def _ship(trained: Path, folder: Path, tokens: Float[Tensor, "token d_model"]) -> Fidelity:
    """Write an SAE as float16, stating the L0 and the unexplained variance that it has as such on
    these tokens."""
    saelens.save(saelens.load(trained), folder)
    arrays = read_safetensors(folder / saelens.WEIGHTS).values
    write_safetensors(
        folder / saelens.WEIGHTS, {name: array.half() for name, array in arrays.items()}
    )
    found = measure(_unstated(saelens.load(folder)), tokens)
    config = json.loads((folder / saelens.CONFIG).read_text())
    stated = {"l0": round(found.l0, 2), "fvu": round(found.fvu, 5)}
    write_json(
        folder / saelens.CONFIG,
        {**config, "dtype": "float16", "metadata": {**config["metadata"], **stated}},
    )
    return found


def _unstated(sae: SAE) -> SAE:
    """The SAE without what was measured before it was rounded."""
    return replace(sae, stated=Stated(model=sae.stated.model))


if __name__ == "__main__":
    main(sys.argv[1:])
