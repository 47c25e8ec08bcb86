"""The keys of what is kept between runs, attacked: a file or a setting is changed at random, and
whatever then computes something else must have another key, or be refused.

python -m tests.attack.store_keys [--cases 1000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import click
import torch

from sage.errors import SageError
from sage.models.load import load_model
from sage.run import Plan, make_plan
from sage.saes.formats import load_file
from sage.saes.suite import assemble
from sage.store.key import digest, suite_digest
from sage.store.key import run_keys as keys_of_run
from sage.task.catalog import load_task
from sage.task.splits import SplitSizes, split
from sage.task.tokens import tokenize
from tests.attack.inputs import fill, healthy, model_files
from tests.attack.mutate import changed, json_text
from tests.saes.examples import inputs
from tests.words import word_tokenizer


class Kept(NamedTuple):
    """A key, and what is computed under it, as bytes."""

    key: str
    value: bytes


IDS = torch.tensor([[0, 5, 9, 14, 7]])
_CONFIG_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 6, 1e-5, 1e-3, 0.5, "relu", "gelu", "gelu_new", "x", 64, 128,
)  # fmt: skip


def model_of(folder: Path) -> Kept:
    """A model's key is its revision and how it is run; what it computes are its logits, and the
    tokens of a text."""
    model = load_model(str(folder), device="cpu")
    ids = model.tokenizer.backend_tokenizer.encode("When Mary went", add_special_tokens=False).ids
    logits = model.engine.forward(IDS)[0]
    return Kept(
        digest(model.revision, model.bos, model.dtype, model.backend),
        logits.numpy().tobytes()
        + json.dumps([ids, model.bos, model.tokenizer.bos_token_id]).encode(),
    )


def change_model(rng: Random, folder: Path) -> Kept:
    """One file of a model: a field, a byte of a weight, a file more or less."""
    files = dict(model_files())
    how = rng.random()
    names = sorted(files)
    if how < 0.4:
        config = json.loads(files["config.json"])
        config[rng.choice(sorted(config))] = rng.choice(_CONFIG_VALUES)
        files["config.json"] = json_text(config)
    elif how < 0.6:
        name = rng.choice([name for name in names if name.endswith(".json")])
        files[name] = json_text(changed(json.loads(files[name]), rng))
    elif how < 0.85:
        weights = bytearray(files["model.safetensors"])
        weights[rng.randrange(len(weights) // 2, len(weights))] ^= 1 << rng.randrange(8)
        files["model.safetensors"] = bytes(weights)
    elif how < 0.95:
        more = ("generation_config.json", "special_tokens_map.json", "added_tokens.json", "x.json")
        files[rng.choice(more)] = rng.choice((b"{}", b'{"bos_token": "the"}', b'{"zzz": 5}'))
    else:
        files.pop(rng.choice([name for name in names if name != "model.safetensors"]))
    fill(folder, files)
    return model_of(folder)


def sae_of(folder: Path) -> Kept:
    """A suite's key is its digest; what it computes are reconstructions."""
    loaded = load_file(folder / "sae")
    return Kept(
        suite_digest(assemble("s", [loaded])),
        loaded.reconstruct(inputs(d=loaded.d_model)).numpy().tobytes() + repr(loaded.site).encode(),
    )


def change_sae(rng: Random, folder: Path) -> Kept:
    """One field or one bit of an SAE."""
    files = dict(healthy("saelens topk"))
    name = rng.choice(sorted(files))
    if name.endswith(".json"):
        files[name] = json_text(changed(json.loads(files[name]), rng))
    else:
        weights = bytearray(files[name])
        weights[rng.randrange(len(weights) // 2, len(weights))] ^= 1 << rng.randrange(8)
        files[name] = bytes(weights)
    fill(folder, files)
    return sae_of(folder)


_TASK = """from sage import Task
from helper import scaled
task = Task(
    name="{name}", source="x", answer="a", foil="c", gate={gate}, metric={metric},
    templates={{"f": {{
        "v": "A {{a}}, a {{c}} by the {{b}} is",
        "w": "By the {{b}} a {{a}}, a {{c}} is",
    }}}},
    slots={{
        "a": {a}, "b": ("car", "house", "tree", "bus"), "c": ("one", "two", "three", "four"),
    }},
    attributes=("a", "c"), irrelevant=("b",), contrasts=("a",),
)
"""
_WORDS = "A, a by the is cat dog fish bird cow car house tree bus one two three four"
_SETTINGS: dict[str, tuple[str, ...]] = {
    "name": ("t",),
    "gate": ("0.75", "0.5"),
    "metric": ('"logit_difference"', "lambda logits, prompts: logits[:, 0]", "scaled"),
    "a": (
        '("cat", "dog", "fish", "bird")',
        '("cat", "dog", "fish", "cow")',
        '("cat", "dog", "cow")',
    ),
    "helper": ("2.0", "3.0"),
}


def task_of(folder: Path, *, seed: int = 0) -> Kept:
    """A task's key is that of its run on a model; what it computes are its prompts, and what its
    metric says."""
    sys.path.insert(0, str(folder))
    sys.modules.pop("helper", None)
    try:
        task = load_task(str(folder / "t.py"))
    finally:
        sys.path.remove(str(folder))
    words = word_tokenizer(["By", _WORDS])
    sizes = SplitSizes(discover=30, fit=40, fit_pairs=30, test=40)
    splits = split(task, lambda prompt: tokenize(prompt, words, bos=False), seed=seed, sizes=sizes)
    keys = keys_of_run(_plain_model(), task, splits, make_plan("quick", seed=seed))
    said = repr([prompt.ids for prompt in splits.prompts()]) + str(task.gate)
    if callable(task.metric):
        said += repr(task.metric(torch.arange(6.0).reshape(2, 3), []).tolist())
    return Kept(keys.task.digest, said.encode())


def change_task(rng: Random, folder: Path) -> Kept:
    """One setting of a task, or a number in a file that it imports."""
    chosen = {name: values[0] for name, values in _SETTINGS.items()}
    for name in rng.sample(sorted(_SETTINGS), 2):
        chosen[name] = rng.choice(_SETTINGS[name])
    helper = chosen.pop("helper")
    text = _TASK.format(**chosen)
    code = f"FACTOR = {helper}\ndef scaled(logits, prompts):\n    return FACTOR * logits[:, 0]\n"
    fill(folder, {"t.py": text.encode(), "helper.py": code.encode()})
    return task_of(folder, seed=rng.randrange(2))


def change_plan(rng: Random, folder: Path) -> Kept:
    """One setting of a plan: what it decides is the setting."""
    del folder
    plan = make_plan("quick")
    name = rng.choice([entry.name for entry in fields(Plan) if entry.name != "name"])
    value = getattr(plan, name)
    if isinstance(value, bool):
        plan = replace(plan, **{name: not value})
    elif isinstance(value, int):
        plan = replace(plan, **{name: value + rng.randrange(3)})
    return Kept(digest(plan), repr(plan).encode())


@lru_cache
def _plain_model() -> Any:
    with tempfile.TemporaryDirectory() as made:
        fill(Path(made) / "m", model_files())
        return load_model(str(Path(made) / "m"), device="cpu")


CHANGES: dict[str, Callable[[Random, Path], Kept]] = {
    "model": change_model,
    "SAE": change_sae,
    "task": change_task,
    "plan": change_plan,
}


def attack_keys(name: str, cases: int, folder: Path, *, seed: int = 0) -> Counter[str]:
    """How many changes of one kind were refused, computed what was computed before, or something
    else under a key of its own; `stale` are those under a key that another value has."""
    values: dict[str, bytes] = {}
    counts: Counter[str] = Counter()
    for case in range(cases):
        try:
            kept = CHANGES[name](Random(seed + case), folder / "changed")
        except SageError:
            counts["refused"] += 1
            continue
        known = values.setdefault(kept.key, kept.value)
        counts["stale" if known != kept.value else "another key or the same value"] += 1
    return counts


def main() -> int:
    """Attack, and print what came of it."""
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stale = 0
    with tempfile.TemporaryDirectory(prefix="sage-keys-") as made:
        os.environ["SAGE_CACHE"] = str(Path(made) / "cache")
        for name in CHANGES:
            counts = attack_keys(name, given.cases // len(CHANGES), Path(made), seed=given.seed)
            click.echo(f"{name}: {dict(counts)}")
            stale += counts["stale"]
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
