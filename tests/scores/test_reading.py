"""What contrasts are scored on: read once, and no more of it than is decided on."""

from __future__ import annotations

from sage.evaluation import prepare
from sage.models.load import load_model
from sage.nodes import Section, parse_node
from sage.scores.reading import gather, gather_shared
from sage.task.catalog import load_task


def test_irrelevant_pairs_are_as_many_as_those_decided_on_and_equally_many_of_each_attribute() -> (
    None
):
    model = load_model("tiny-neox", device="cpu")
    task, splits = prepare(model, load_task("ioi"), test=30, discover=30, fit=400, tried=40)
    section = Section("IO", {parse_node("1.0.z@END"): 1.0})
    shared = gather_shared(model, task, splits, [section], hooks=[])
    assert task.irrelevant == ("place", "object", "template")
    assert shared.irrelevant is not None
    changed: list[list[str]] = []
    for one, other in zip(
        shared.irrelevant.base.prompts, shared.irrelevant.target.prompts, strict=True
    ):
        before, after = one.prompt.labels, other.prompt.labels
        changed.append(
            [name for name in (*task.attributes, *task.irrelevant) if before[name] != after[name]]
        )
    assert changed == [["place"], ["object"], ["template"]] * 13 + [["place"]]
    assert len(gather(model, task, splits, section, shared=shared, hooks=[]).tried.base) == 40
