"""The whole path on the wired model, whose circuit and features are known: what must come out does.

Planted features score 1, what knows nothing scores 0, and every number says what it is of.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.errors import BadFile, SageError
from sage.evaluation import Evaluation, evaluate
from sage.models.base import Model
from sage.preparation import measure_gate, prepare
from sage.result import HEADLINES, Result, Row
from sage.result_file import load_arrays, load_result, save_result
from sage.saes.formats import load_file
from sage.saes.planted import planted_suite, save_planted
from sage.saes.suite import Suite, assemble
from sage.scores.text import Text, text_of
from sage.store.store import Store
from wired_runs import PLAN, planted, wired_model, wired_task

CONTRASTS = ("kind", "animal", "owner")
# One run that asks for everything.
WHOLE = replace(
    PLAN,
    detect=40,
    controls=("mean only", "random", "permuted", "untrained", "task lookup", "PCA", "identity"),
    copying=(1, 4),
    unbounded=True,
    apart=True,
    also=("per-node",),
)
_SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, {tests!r})
from sage.evaluation import evaluate
from wired_runs import PLAN, planted, wired_model, wired_task

model = wired_model()
suites = [planted(model), planted(model, "first", hooks=3)]
evaluate(model, wired_task("kind"), suites, plan=PLAN, folder=Path({out!r}))
"""


@pytest.fixture(scope="module")
def wired() -> Model:
    return wired_model()


@pytest.fixture(scope="module")
def scored(wired: Model, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folders = save_planted(wired.anatomy.hooks, tmp_path_factory.mktemp("planted"))
    suite = assemble("planted", [load_file(folder) for folder in folders])
    return evaluate(wired, wired_task(*CONTRASTS), [suite], plan=WHOLE)


def summary(result: Result, dictionary: str) -> dict[str, float | None]:
    """Every headline score of a dictionary over all contrasts."""
    rows = {
        metric: result.value(metric, suite="planted", dictionary=dictionary) for metric in HEADLINES
    }
    return {metric: row and row.value for metric, row in rows.items()}


def rows_of(result: Result, dictionary: str, metric: str, section: str | None = None) -> list[Row]:
    """The headline rows of a metric at every node set, or at one; the decided form comes first."""
    return [
        row
        for row in result.headlines("planted", dictionary)
        if row.metric == metric and section in (None, row.section)
    ]


def raw(result: Result, dictionary: str, metric: str) -> dict[str, float]:
    """What a metric came to before it was clipped, by contrast, at the union of its nodes."""
    rows = [row for row in rows_of(result, dictionary, metric) if row.section == row.contrast]
    return {row.section: row.raw for row in rows if row.raw is not None}


def test_planted_and_supervised_features_score_one_everywhere(scored: Evaluation) -> None:
    for dictionary in ("planted", "supervised"):
        scores = summary(scored.result, dictionary)
        assert scores == pytest.approx(dict.fromkeys(HEADLINES, 1), abs=0.01), dictionary
    for metric in HEADLINES:
        for row in rows_of(scored.result, "planted", metric):
            assert row.status != "ok" or row.value == pytest.approx(1, abs=0.02), row


def test_the_latents_that_were_moved_are_the_planted_features_of_what_changes(
    scored: Evaluation,
) -> None:
    """Both kinds change in every pair: each kind's latent means it, points at its feature, and is
    moved in every edit."""
    found = scored.result.latents("kind", "kind")
    assert set(found.value) == {"kind=colour", "kind=size"}
    assert (found.f1 == 1).all()
    assert (found.value == found.feature).all()
    assert (found.cosine > 0.99).all()
    assert (found.share == 1).all()
    assert (found.pairs == found.n).all()
    for examples in found.examples:
        assert all(told["edited"] == told["wanted"] != told["said"] for told in examples)


def test_every_confirmed_head_says_where_it_attends_and_what_it_says(scored: Evaluation) -> None:
    """Of `kind` two heads bring the quality to END; an MLP makes the answer of it, not they."""
    result = scored.result
    sections = {info.id: info for info in result.sections if info.id == info.contrast}
    nodes = {node for info in sections.values() for node in info.nodes if ".z@" in node}
    assert {head.node for head in result.heads} == nodes
    for head in result.heads:
        assert head.contrasts == [
            name for name, info in sections.items() if head.node in info.nodes
        ]
        assert sum(head.attends.values()) <= 1.001
        assert (head.direct is None) == (not head.node.endswith("@END"))
    for head in (head for head in result.heads if "kind" in head.contrasts):
        assert next(iter(head.attends)) == "quality+1"
        assert head.direct == pytest.approx(0, abs=1e-5)


def test_without_a_text_the_notes_say_that_no_text_lookup_stands_beside(
    scored: Evaluation,
) -> None:
    assert any(note.startswith("No text lookup") for note in scored.result.notes)


def test_told_the_labels_of_other_prompts_the_planted_features_score_nothing(
    scored: Evaluation,
) -> None:
    scores = summary(scored.result, "shuffled labels")
    for metric in ("interpretable", "control", "move"):
        assert scores[metric] == pytest.approx(0, abs=0.02)
    left = raw(scored.result, "shuffled labels", "geometry")
    assert abs(left["kind"] + left["animal"]) / 2 < 0.05


@pytest.mark.parametrize("control", ["random", "permuted"])
def test_without_their_directions_latents_control_nothing(scored: Evaluation, control: str) -> None:
    scores = summary(scored.result, control)
    assert scores["control"] == pytest.approx(0, abs=0.15)


def test_the_mean_alone_is_nothing_and_the_identity_all_of_an_approximation(
    scored: Evaluation,
) -> None:
    for dictionary, value in (("mean only", 0), ("identity", 1)):
        values = raw(scored.result, dictionary, "approximation")
        assert list(values) == list(CONTRASTS)
        assert all(number == pytest.approx(value, abs=1e-5) for number in values.values())


def test_the_identity_is_a_line_and_never_the_best_control(scored: Evaluation) -> None:
    named = {row.best_control.name for row in scored.result.rows if row.best_control}
    assert "identity" not in named
    best = rows_of(scored.result, "planted", "approximation")[0].best_control
    assert best is not None
    assert best.value < 0.95


def test_where_the_union_has_no_control_the_strongest_group_that_has_one_stands_in(
    scored: Evaluation,
) -> None:
    """Patching all that carries the animal puts both clauses right again; patching the keys alone
    does not."""
    result = scored.result
    union = rows_of(result, "planted", "control", "animal")[0]
    assert union.status.startswith("undefined: patching these nodes moves the metric")
    stand_ins = {row.section for row in result.rows if row.section.startswith("animal/")}
    assert stand_ins == {"animal/k@animal1"}
    assert rows_of(result, "planted", "control", "animal/k@animal1")[0].value is not None
    assert result.lost_contrasts("planted") == {}
    row = result.value("control", suite="planted", dictionary="planted")
    assert row is not None
    assert (row.contrasts, row.status) == (3, "ok")


def test_geometry_is_undefined_where_a_node_holds_one_direction_alone(scored: Evaluation) -> None:
    row = rows_of(scored.result, "planted", "geometry", "owner")[0]
    assert row.value is None
    assert "shuffled labels match" in row.status
    over_all = scored.result.value("geometry", suite="planted", dictionary="planted")
    assert over_all is not None
    assert (over_all.contrasts, over_all.status) == (2, "ok; without owner")


def test_own_and_moved_nodes_are_told_apart_where_a_section_has_both(scored: Evaluation) -> None:
    """The animal's own positions hold the token that changes; so do no others of its section."""
    rows = [row for row in scored.result.rows if row.at in ("own nodes", "moved nodes")]
    for row in rows:
        assert (row.metric, row.budget) == ("control", "2 need")
    assert {row.contrast for row in rows} == {"kind"}
    assert {row.at for row in rows} == {"own nodes", "moved nodes"}
    assert {row.dictionary for row in rows} >= {"planted", "supervised", "random", "PCA"}


def test_options_of_copying_are_dictionaries_that_are_copied_alone(scored: Evaluation) -> None:
    copied = rows_of(scored.result, "planted [per-node]", "copying")
    assert len(copied) == 3 + 1
    names = {row.metric for row in scored.result.rows if row.dictionary == "planted [per-node]"}
    assert "control" not in names
    assert "geometry" not in names


def test_every_number_has_its_n_and_every_undefined_one_its_reason(scored: Evaluation) -> None:
    for row in scored.result.rows:
        assert (row.value is None) == row.status.startswith("undefined: "), row
        assert row.n > 0 or row.metric == "reach" or row.value is None, row
        if row.value is not None and row.metric in HEADLINES:
            assert 0 <= row.value <= 1
            assert row.low is not None
            assert row.low - 1e-9 <= row.value <= row.high + 1e-9


def test_coverage_is_of_prompts_beyond_those_of_the_pairs(scored: Evaluation) -> None:
    row = rows_of(scored.result, "planted", "coverage", "animal")[0]
    assert row.n == 40
    assert row.value > 0.9


def test_what_a_plan_saves_on_stands_in_the_notes(scored: Evaluation) -> None:
    notes = scored.result.notes
    assert "plan least: pairs 30 instead of 500" in notes
    assert any(note.startswith("plan least: no text lookup, neurons") for note in notes)


def test_a_result_is_read_back_equal_with_its_arrays(tmp_path: Path, scored: Evaluation) -> None:
    save_result(scored.result, tmp_path, arrays=scored.arrays)
    assert load_result(tmp_path) == scored.result
    arrays = load_arrays(tmp_path)
    assert arrays.keys() == scored.arrays.keys()
    assert all(
        np.array_equal(arrays[n], scored.arrays[n], equal_nan=n.count("f1|") > 0) for n in arrays
    )


def test_a_run_that_is_killed_and_repeated_ends_with_the_same_numbers(
    wired: Model, tmp_path: Path
) -> None:
    out, script = tmp_path / "out", tmp_path / "score.py"
    script.write_text(_SCRIPT.format(tests=str(Path(__file__).parent), out=str(out)))
    command = [sys.executable, str(script)]
    unfinished = out / ".unfinished"

    def parts() -> list[Path]:
        return list(unfinished.rglob("[!.]*.safetensors"))

    with subprocess.Popen(command) as running:
        wait_until(lambda: bool(parts()) or running.poll() is not None)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert parts()
    subprocess.run(command, check=True)
    assert not unfinished.exists()
    suites = [planted(wired), planted(wired, "first", hooks=3)]
    whole = evaluate(wired, wired_task("kind"), suites, plan=PLAN)
    repeated = load_result(out)
    assert replace(repeated, run=whole.result.run) == whole.result
    arrays = load_arrays(out)
    assert arrays.keys() == whole.arrays.keys()
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in whole.arrays.items())


def wait_until(done: Callable[[], bool], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)


def test_another_text_is_another_lookup_whatever_the_store_knows(
    wired: Model, tmp_path: Path
) -> None:
    plan = replace(PLAN, controls=("text lookup",))
    task = wired_task("kind")
    prompts = prepare(wired, task, plan).splits.fit
    texts = [text_of(prompts[:20]), text_of(prompts[20:60])]
    store = Store(tmp_path)

    def lookup(text: Text) -> list[Row]:
        run = evaluate(wired, task, [planted(wired)], plan=plan, text=text, store=store)
        return [row for row in run.result.rows if row.dictionary == "text lookup"]

    assert lookup(texts[0]) != lookup(texts[1])


def test_a_model_below_the_gate_is_reported_and_not_scored(wired: Model) -> None:
    task = replace(wired_task("kind"), gate=1.01)
    result = evaluate(wired, task, [planted(wired)], plan=PLAN).result
    assert not result.gate.passed
    assert (result.rows, result.discovery, result.suites) == ([], [], [])
    assert "does not do this task" in result.notes[0]
    assert result.overview()[0]["sage"] is None


def test_the_gate_counts_prompts_on_which_the_answer_beats_the_foil(wired: Model) -> None:
    prepared = prepare(wired, wired_task("kind"), PLAN)
    gate = measure_gate(wired, prepared.task, prepared.splits.fit[:50])
    assert (gate.accuracy, gate.n, gate.passed, gate.says_answer) == (1.0, 50, True, 1.0)


def test_an_sae_of_another_width_is_refused_before_anything_runs(wired: Model) -> None:
    suite = planted_suite(wired.anatomy.hooks[:1])
    hook, sae = next(iter(suite.saes.items()))
    narrow = replace(sae, W_dec=sae.W_dec[:, :-1], b_dec=sae.b_dec[:-1])
    with pytest.raises(BadFile, match="W_dec"):
        evaluate(wired, wired_task("kind"), [Suite("narrow", {hook: narrow})], plan=PLAN)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["PCA"], "a control has that name"),
        (["shuffled labels"], "a control has that name"),
        (["supervised"], "a control has that name"),
        (["planted", "planted"], "Two suites are called 'planted'"),
    ],
)
def test_suites_whose_rows_could_not_be_told_apart_are_refused(
    wired: Model, names: list[str], said: str
) -> None:
    with pytest.raises(SageError, match=said):
        evaluate(wired, wired_task("kind"), [planted(wired, name) for name in names])


def test_a_suite_that_reaches_no_node_has_every_score_undefined_and_the_reason(
    wired: Model,
) -> None:
    """What enters the first layer is read by no node of the section."""
    result = evaluate(wired, wired_task("kind"), [planted(wired, hooks=1)], plan=PLAN).result
    rows = {row.metric: row for row in result.headlines("planted", "planted")}
    assert rows["reach"].value == 0
    for metric in HEADLINES:
        assert rows[metric].status == (
            "undefined: no node of the section reads an SAE of this suite"
        )
    assert list(result.lost_contrasts("planted")) == ["kind"]
    assert result.overview()[0]["sage"] is None
