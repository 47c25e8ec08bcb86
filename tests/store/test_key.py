"""Keys: whatever decides a number makes another key, and nothing else does."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sage.dictionaries.options import Options
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node, parse_node
from sage.preparation import prepare
from sage.run import Plan
from sage.saes.planted import planted_suite
from sage.saes.sae import Normalisation, Stated
from sage.saes.suite import Suite
from sage.store import key as module
from sage.store.key import (
    LIBRARIES,
    Key,
    code_version,
    digest,
    prompts_digest,
    run_keys,
    suite_digest,
)
from sage.task.catalog import load_task
from sage.task.metric import logit_difference, probability_difference
from sage.task.splits import Splits
from sage.task.task import Task

PLAN = Plan(pairs=40, discover=40, decide=40, fit=300, detect=20)


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired", device="cpu")


@pytest.fixture(scope="module")
def prepared(wired: Model) -> tuple[Task, Splits]:
    task, splits = prepare(wired, load_task("wired"), PLAN)
    return task, splits


def test_equal_values_have_one_digest_wherever_it_is_taken() -> None:
    code = "from sage.store.key import digest; from sage.nodes import Node; "
    code += "print(digest({'a': (1, 2.5, None)}, {Node('z', 1, 0, 'END'), Node('z', 1, 1, 'END')}))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    nodes = {parse_node("1.1.z@END"), parse_node("1.0.z@END")}
    assert digest({"a": [1, 2.5, None]}, nodes) == there.stdout.strip()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, 1.0),
        (1, True),
        (None, "None"),
        (("a", "b"), ("a b",)),
        (("a", "b"), (("a",), "b")),
        ({"a": 1}, {"a": 2}),
        ({1: "a"}, {"1": "a"}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([], [[]]),
        (0.0, -0.0),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (torch.zeros(1001), torch.cat([torch.zeros(1000), torch.ones(1)])),
        (np.zeros(3), np.array([0, 0, 1e-300])),
        (Node("z", 1, 0, "END"), Node("z", 1, 1, "END")),
        (Options(), Options(scale="recomputed")),
        (Stated(l0=1.0), Stated(fvu=1.0)),
        (logit_difference, probability_difference),
    ],
)
def test_different_values_have_different_digests(one: object, other: object) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_how_a_tensor_lies_in_memory_is_no_difference() -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    assert digest(tensor) == digest(tensor.T.contiguous().T)
    assert digest(tensor) == digest(torch.stack([tensor, tensor])[1])


def test_what_has_no_sure_digest_is_refused_or_like_nothing_else() -> None:
    @dataclass
    class Holder:
        value: object

    with pytest.raises(TypeError, match="object has no digest"):
        digest(Holder([object()]))
    number = 3
    for function in (lambda: number, partial(digest, 1), len):
        assert digest(function) != digest(function)


def test_a_function_is_known_by_its_whole_file(tmp_path: Path) -> None:
    """A constant that it reads decides too."""

    def define(constant: int) -> Callable[[], int]:
        file = tmp_path / "metric.py"
        file.write_text(f"NUMBER = {constant}\ndef metric():\n    return NUMBER\n")
        scope: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), scope)
        return scope["metric"]

    one = digest(define(1))
    assert digest(define(1)) == one
    assert digest(define(2)) != one


def test_the_code_version_is_that_of_the_sources_and_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {"torch", "transformers", "numpy", "scipy", "safetensors", "tokenizers"} == {*LIBRARIES}

    def with_changed(source: str, library: str) -> str:
        code_version.cache_clear()
        monkeypatch.setattr(module, "file_digest", lambda path: str(path.name == source))
        monkeypatch.setattr(module, "version", lambda name: str(name == library))
        return code_version()

    changed = [with_changed("", ""), with_changed("stats.py", ""), with_changed("key.py", "")]
    changed += [with_changed("", library) for library in LIBRARIES]
    assert len({*changed}) == 3 + len(LIBRARIES)
    assert with_changed("", "") == changed[0]
    monkeypatch.undo()
    code_version.cache_clear()


def test_a_key_is_about_all_that_it_was_told() -> None:
    key = Key("ioi on gpt2", digest("a model"))
    assert key.about("IO", 1) == key.about("IO", 1)
    assert key.about("IO", 1).of == "ioi on gpt2"
    others = [key, key.about("IO"), key.about(1, "IO"), key.about("IO").about(1), key.about("IO1")]
    digests = {other.digest for other in (*others, key.about("IO", 1))}
    assert len(digests) == 6


MODEL_CHANGES = {
    "name": "other",
    "revision": "0" * 64,
    "bos": False,
    "device": "cuda",
    "dtype": "bfloat16",
    "batch_size": 3,
    "partial": None,
}


@pytest.mark.parametrize("field", MODEL_CHANGES)
def test_a_model_and_how_it_is_run_decide_everything(
    wired: Model, prepared: tuple[Task, Splits], field: str
) -> None:
    plan = Plan()
    keys = run_keys(wired, *prepared, plan)
    changed = run_keys(replace(wired, **{field: MODEL_CHANGES[field]}), *prepared, plan)
    for one, other in zip(keys, changed, strict=True):
        assert one.digest != other.digest


def test_the_backend_and_the_code_decide_everything(
    wired: Model, prepared: tuple[Task, Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [run_keys(wired, *prepared, Plan())]
    monkeypatch.setattr(wired.engine, "name", "nnsight 0.0")
    keys.append(run_keys(wired, *prepared, Plan()))
    monkeypatch.setattr(module, "code_version", lambda: "another source")
    keys.append(run_keys(wired, *prepared, Plan()))
    for of_one_kind in zip(*keys, strict=True):
        assert len({key.digest for key in of_one_kind}) == 3


def test_a_task_decides_what_is_found_out_with_it_and_not_what_the_model_does(
    wired: Model, prepared: tuple[Task, Splits]
) -> None:
    task, splits = prepared
    keys = run_keys(wired, task, splits, Plan())
    fewer = replace(splits, test={**splits.test, "quality": splits.test["quality"][:-1]})
    for changed in (
        run_keys(wired, replace(task, gate=0.5), splits, Plan()),
        run_keys(wired, replace(task, metric="probability_difference"), splits, Plan()),
        run_keys(wired, replace(task, name="other"), splits, Plan()),
        run_keys(wired, task, fewer, Plan()),
        run_keys(wired, task, splits, Plan(seed=1)),
    ):
        assert changed.model == keys.model
        assert changed.task.digest != keys.task.digest
        assert changed.run.digest != keys.run.digest


PLAN_CHANGES: dict[str, object] = {
    "name": "other",
    "seed": 1,
    "pairs": 41,
    "discover": 41,
    "decide": 41,
    "fit": 301,
    "detect": 41,
    "controls": ("random",),
    "copying": (4,),
    "also": ("oracle",),
}


def test_the_whole_plan_decides_a_run(wired: Model, prepared: tuple[Task, Splits]) -> None:
    """Its scores depend on every field; of what is found out on the way, on the seed alone."""
    plan = Plan()
    keys = run_keys(wired, *prepared, plan)
    for field in dataclasses.fields(Plan):
        default = getattr(plan, field.name)
        other = PLAN_CHANGES.get(field.name, not default if isinstance(default, bool) else -1)
        assert other != default
        changed = run_keys(wired, *prepared, replace(plan, **{field.name: other}))
        assert changed.run.digest != keys.run.digest, field.name
        assert (changed.task == keys.task) == (field.name != "seed"), field.name


def test_what_decides_says_the_same_in_every_process(
    wired: Model, prepared: tuple[Task, Splits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit's rule for prompts, a closure, is known by the prompts that it keeps."""
    code = """
from tests.store.test_key import *
module.code_version = lambda: "this code"
wired = load_model("wired", device="cpu")
prepared = prepare(wired, load_task("wired"), PLAN)
print(*(key.digest for key in run_keys(wired, *prepared, Plan())))
"""
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    monkeypatch.setattr(module, "code_version", lambda: "this code")
    keys = run_keys(wired, *prepared, Plan())
    assert there.stdout.split() == [key.digest for key in keys]


def test_every_prompt_decides_and_so_does_where_it_stands(prepared: tuple[Task, Splits]) -> None:
    _, splits = prepared
    first, *rest = splits.fit
    changes: list[dict[str, Any]] = [
        {"ids": (*first.ids[:-1], 0)},
        {"index": {**first.index, "END": first.index["END"] - 1}},
        {"answers": first.foils},
        {"foils": first.answers},
        {"prompt": replace(first.prompt, labels={**first.prompt.labels, "x": 1})},
        {"prompt": replace(first.prompt, text="other")},
    ]
    changed = [replace(splits, fit=(replace(first, **change), *rest)) for change in changes]
    changed += [replace(splits, fit=(*rest, first)), replace(splits, fit=(*rest,))]
    pairs = {name for name, value in vars(splits).items() if isinstance(value, dict)} - {"drops"}
    assert len(pairs) == 6
    for name in sorted(pairs):
        if getattr(splits, name):
            shorter = _without_the_last(getattr(splits, name))
            changed.append(replace(splits, **{name: shorter}))
    digests = {prompts_digest(other) for other in (splits, *changed)}
    assert len(digests) == 1 + len(changed)
    assert prompts_digest(replace(splits, drops={})) == prompts_digest(splits)


def test_the_same_prompts_split_elsewhere_are_other_prompts(prepared: tuple[Task, Splits]) -> None:
    """The last pair of one split made the first of the next: as a list they are the same pairs."""
    _, splits = prepared
    name = next(iter(splits.fit_pairs))
    *kept, last = splits.fit_pairs[name]
    tested = splits.test[name]
    here = replace(splits, fit_pairs={name: (*kept, last)}, fit_null={}, test={name: tested})
    elsewhere = replace(here, fit_pairs={name: (*kept,)}, test={name: (last, *tested)})
    assert prompts_digest(here) != prompts_digest(elsewhere)


def test_every_weight_and_setting_of_a_suite_decides(wired: Model) -> None:
    """Among them b_dec; not what an SAE is called, where it is from, and what is said of it."""
    suite = planted_suite(wired.anatomy.hooks[:2])
    hook, sae = next(iter(suite.saes.items()))
    encoder = sae.encoder
    changes: dict[str, object] = {
        "encoder": replace(encoder, **_nudged(encoder)),
        "W_dec": sae.W_dec + 1e-6,
        "b_dec": sae.b_dec + 1e-6,
        "hook": parse_node("2.resid_pre@*"),
        "normalisation": Normalisation("expected_average_only_in", 2.0),
        "centred": not sae.centred,
        "subtract_b_dec": not sae.subtract_b_dec,
        "reads_bos": not sae.reads_bos,
    }
    names: dict[str, object] = {"id": "other", "stated": Stated(l0=3.0), "source": "elsewhere"}
    assert {*changes, *names} == {field.name for field in dataclasses.fields(sae)}
    now = suite_digest(suite)

    def changed(**fields: Any) -> str:
        return suite_digest(Suite(suite.id, {**suite.saes, hook: replace(sae, **fields)}))

    for field, value in changes.items():
        assert changed(**{field: value}) != now, field
    for field, value in names.items():
        assert changed(**{field: value}) == now, field
    assert suite_digest(Suite("other", suite.saes)) == now
    assert suite_digest(Suite(suite.id, {hook: sae})) != now


def test_every_tensor_and_setting_of_an_encoder_decides(wired: Model) -> None:
    suite = planted_suite(wired.anatomy.hooks[:1])
    hook, sae = next(iter(suite.saes.items()))
    digests = [suite_digest(suite)]
    for field, value in _nudged(sae.encoder).items():
        encoder = replace(sae.encoder, **{field: value})
        other = Suite(suite.id, {hook: replace(sae, encoder=encoder)})
        digests.append(suite_digest(other))
    assert len({*digests}) == len(digests) > 2


def _nudged(encoder: Any) -> dict[str, Any]:
    """Every field of an encoder, changed a little."""
    names = [field.name for field in dataclasses.fields(encoder)]
    values = {name: getattr(encoder, name) for name in names}
    return {
        name: value + 1e-6 if isinstance(value, torch.Tensor) else value + 1
        for name, value in values.items()
    }


def _without_the_last(pairs: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    (name, kept), *others = pairs.items()
    return {name: kept[:-1], **dict(others)}
