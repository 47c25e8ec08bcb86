"""The wired model as a fourth world of truth: built suites scored by the whole path.

Method, section 7. A planted world has one node, which is where it is measured. Here dictionaries
are suites of SAEs at every point of a residual stream: sections are searched, features fitted at
queries, keys, values and mixed values, SAEs projected there, as they are for any model. No SAE is
trained on its streams: a suite takes twelve of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.audit.plan import AuditPlan
from sage.audit.records import Measured, defined
from sage.audit.shipped_snapshots import scores_of
from sage.audit.wired_panel import BUILT, PREFIX, PlantedHook, lookup, planted_hooks
from sage.evaluation import evaluate
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.run import Plan
from sage.saes.suite import Suite
from sage.task.catalog import load_task
from sage.task.task import Task
from sage.toy.quality import Quality, best_matched, detection_f1

WIRED = "wired"
# In the order in which a plan takes them; that of kinds lives where that of qualities does.
CONTRASTS = ("quality", "owner", "animal", "kind")
PLAN = Plan(
    "audit",
    pairs=40, discover=40, decide=40, fit=500, detect=200,
    controls=(), copying=(4,), unbounded=False, apart=False,
)  # fmt: skip
CENTRES = (128,)
# What lookup tables remember, what quality is measured on, and from which seeds they are drawn.
PROMPTS, REMEMBERED, MEASURED_ON = 300, 2_000, 3_000
# Variables whose values are what the task's attributes are; no score is told of the others.
LABELLED = ("owner", "animal", "kind", "colour", "size")

Streams = Mapping[Node, Float[Tensor, "token d_model"]]


def measure_wired(plan: AuditPlan) -> list[Measured]:
    """Every built suite and control of the wired model, with its scores and its quality."""
    model, task = load_model(WIRED, device="cpu"), load_task(WIRED)
    hooks = planted_hooks(model.anatomy.hooks)
    remembered = residual_streams(model, task, seed=REMEMBERED)
    suites = {entry.on(hooks): entry.control for entry in BUILT}
    suites |= {lookup(hooks, remembered, centres=centres): True for centres in CENTRES}
    contrasted = replace(task, contrasts=CONTRASTS[: plan.contrasts])
    result = evaluate(model, contrasted, list(suites), plan=PLAN).result
    streams = residual_streams(model, task, seed=MEASURED_ON)
    return [
        Measured(
            "truth", WIRED, suite.id.removeprefix(PREFIX), "control" if control else "built",
            defined_scores(scores_of(result, suite.id, suite.id)),
            suite_quality(suite, hooks, streams)._asdict(),
        )
        for suite, control in suites.items()
    ]  # fmt: skip


def defined_scores(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Those of metrics that were measured there."""
    return defined({name: value for name, value in scores.items() if value is not None})


def residual_streams(model: Model, task: Task, *, seed: int) -> Streams:
    """Every token of some prompts of the task, at every point of the residual stream."""
    prompts = [model.tokenize(prompt) for prompt in task.sample(PROMPTS, seed=seed)]
    values = model.read(model.anatomy.hooks, prompts)
    return {hook: value.flatten(0, 1) for hook, value in values.items()}


def suite_quality(suite: Suite, hooks: Sequence[PlantedHook], streams: Streams) -> Quality:
    """As `planted_quality` of one node, of the features of attributes that are ever present: the
    mean over the points of the residual stream. Attributes of the task are independent."""
    each = [_hook_quality(suite, at, streams[at.sae.hook]) for at in hooks]
    return Quality(*(sum(figures) / len(figures) for figures in zip(*each, strict=True)))


def _hook_quality(suite: Suite, at: PlantedHook, tokens: Float[Tensor, "token d_model"]) -> Quality:
    sae = suite.saes[at.sae.hook]
    codes, planted = sae.encode(tokens), at.sae.encode(tokens) > 0
    sought = [n for n, (_, name) in enumerate(at.of) if name in LABELLED and planted[:, n].any()]
    active = (codes != 0).any(0)
    directions = normalize(sae.W_dec[active], dim=-1)
    cosine = (directions @ normalize(at.sae.W_dec[sought], dim=-1).T).clamp(min=0)
    detected = detection_f1(codes[:, active] > 0, planted[:, sought])
    missed = (tokens - codes @ sae.W_dec - sae.b_dec).square().sum()
    return Quality(
        atoms=best_matched(cosine * detected),
        mcc=best_matched(cosine),
        f1=float(detected.max(0).values.mean()) if len(detected) else 0.0,
        fvu=float(missed / (tokens - tokens.mean(0)).square().sum()),
        l0=float((codes != 0).float().sum(-1).mean()),
    )
