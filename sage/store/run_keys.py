"""What the numbers of a run depend on, as digests: two runs that agree in them find the same."""

from __future__ import annotations

import inspect
import uuid
from hashlib import sha256

from sage.models.base import Model
from sage.nodes import Node
from sage.saes.sae import SAE
from sage.saes.suite import Suite
from sage.store.checkpoints import digest
from sage.task.metric import Metric
from sage.task.splits import Splits
from sage.task.task import Task


def prompts_digest(splits: Splits) -> str:
    """A sha256 of every prompt of the splits: ids, positions, labels, answers and foils."""
    pairs = [
        pair
        for group in (
            splits.discover,
            splits.discover_null,
            splits.fit_pairs,
            splits.fit_null,
            splits.test,
            splits.test_null,
        )
        for pair in group.items()
    ]
    sides = [
        side for _, found in pairs for pair in found for side in (pair.clean, pair.counterfactual)
    ]
    return digest(
        *(
            (p.ids, sorted(p.index.items()), sorted(p.prompt.labels.items()), p.answers, p.foils)
            for p in (*splits.fit, *sides)
        )
    )


def how_run(model: Model) -> tuple[object, ...]:
    """All that activations depend on beside the prompts: the model and how it is run."""
    return (
        model.name,
        model.revision,
        model.backend,
        model.dtype,
        model.device,
        model.bos,
        model.batch_size,
        model.partial is None,
    )


def what_decides(model: Model, task: Task, prompts: str, *, seed: int) -> tuple[object, ...]:
    """All that gate and discovery depend on: the model and how it is run, the task, the digest of
    its prompts, the seed."""
    rules = (
        task.attributes,
        task.irrelevant,
        task.contrasts,
        sorted(task.within.items()),
        task.ordinal,
        task.position_names,
        task.gate,
    )
    return (*how_run(model), task.name, prompts, rules, _source(task.metric), seed)


def suite_digest(suite: Suite) -> str:
    """A sha256 of a suite's weights and settings."""
    return digest(*(_sae_digest(hook, sae) for hook, sae in suite.saes.items()))[:16]


def _source(metric: str | Metric) -> str:
    """A metric's name, or the text of the function; one whose text cannot be found is like no
    other."""
    try:
        return metric if isinstance(metric, str) else inspect.getsource(metric)
    except (OSError, TypeError):
        return uuid.uuid4().hex


def _sae_digest(hook: Node, sae: SAE) -> str:
    settings = (
        hook,
        sae.normalisation,
        sae.centred,
        sae.subtract_b_dec,
        sae.reads_bos,
        sae.encoder.name,
        sae.encoder.settings(),
    )
    tensors = {"W_dec": sae.W_dec, "b_dec": sae.b_dec, **sae.encoder.tensors()}
    weights = [
        (name, sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest())
        for name, tensor in sorted(tensors.items())
    ]
    return digest(settings, weights)
