"""The commands as a user gives them: what they print, what they write, and how they refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from click.testing import Result as Invocation

from sage.cli import cli, discovering, main, run_settings, scoring
from sage.cli import options as cli_options
from sage.dictionaries.options import NAMED_OPTIONS
from sage.discovery import METHODS
from sage.models.load import BACKENDS
from sage.result import (
    BestControl,
    Gate,
    ModelInfo,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    SuiteInfo,
    TaskInfo,
)
from sage.result_file import load_result, save_result
from sage.run import PLANS, make_plan
from sage.run_file import read_run_file


def test_tasks_lists_every_task_with_its_source() -> None:
    rows = _json("tasks")
    assert {"ioi", "induction", "subject_verb_agreement", "wired"} <= {row["task"] for row in rows}
    assert all(row["source"] for row in rows)


def test_models_and_releases_are_listed_without_a_network() -> None:
    assert {"gpt2-small", "pythia-70m-deduped", "gemma-2-2b", "wired"} <= {
        row["name"] for row in _json("models")
    }
    releases = _json("saes", "--model", "gpt2-small")
    assert "gpt2-small-res-jb" in {row["release"] for row in releases}


def test_a_model_gives_every_task_its_token_audit_and_gate() -> None:
    (row,) = _json("tasks", "wired", "--model", "wired")
    assert (row["gate"], row["accuracy"]) == ("passed", 1.0)
    printed = _run("tasks", "wired", "--model", "wired")
    assert "Named positions on an example prompt" in printed
    assert "changes the answer" in printed


def test_a_new_task_works_as_it_stands(tmp_path: Path, shared_data: Path) -> None:
    from transformers import AutoTokenizer

    from sage.task.catalog import load_task
    from sage.task.token_audit import audit

    assert "sage discover" in _run("new-task", "my_task", "--folder", str(tmp_path))
    task = load_task(str(tmp_path / "my_task.py"))
    for name in ("gpt2", "pythia"):
        tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
        kept = audit(task, tokenizer, bos=False).kept
        assert {slot: len(values) for slot, values in kept.items()} == {
            slot: len(values) for slot, values in task.slots.items()
        }
    (row,) = _json("tasks", str(tmp_path / "my_task.py"))
    assert row["task"] == str(tmp_path / "my_task.py")


def test_a_new_task_for_a_model_holds_only_what_its_tokenizer_carries(tmp_path: Path) -> None:
    """The models that ship have one vocabulary."""
    from sage.models.catalog import find_folder
    from sage.models.tokenizers import load_tokenizer
    from sage.task.catalog import load_task
    from sage.task.token_audit import audit

    models = ("tiny-gpt2", "tiny-gemma2", "tiny-neox")
    assert len({(find_folder(name) / "tokenizer.json").read_bytes() for name in models}) == 1
    model = models[0]
    _run("new-task", "mine", "--model", model, "--folder", str(tmp_path))
    task = load_task(str(tmp_path / "mine.py"))
    audited = audit(task, load_tokenizer(model), bos=False)
    assert (audited.dropped, audited.families, audited.refused) == ({}, {}, {})
    assert {slot: len(values) for slot, values in task.slots.items()} == {
        "name": 16,
        "mood": 6,
        "place": 8,
    }
    assert f"--model {model} --explain" in (tmp_path / "mine.py").read_text()


def test_a_task_file_that_contradicts_itself_is_told_the_line(tmp_path: Path) -> None:
    _run("new-task", "mine", "--folder", str(tmp_path))
    path = tmp_path / "mine.py"
    good = path.read_text().splitlines()
    at = next(n for n, line in enumerate(good) if 'contrasts=("gender"' in line)
    path.write_text("\n".join([*good[:at], '    contrasts=("gendr",),', *good[at + 1 :]]))
    refused = _refused("tasks", str(path))
    assert refused.startswith(f"{path}, line {at + 1}: Task mine: ")
    assert "Did you mean 'gender'?" in refused


def test_of_a_task_that_no_template_carries_all_unknown_words_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weather.py"
    path.write_text(
        """from sage import Task

task = Task(
    name="weather",
    source="mine",
    templates={"went": {"first": "My {kin} flew to {land}. The weather there was"}},
    slots={"land": ("Spain", "Norway"), "kin": ("father", "xyzzy")},
    functions={"climate": lambda p: "warm" if p.slots["land"] == "Spain" else "cold"},
    answer=lambda p: "hot" if p.slots["land"] == "Spain" else "cold",
    foil=lambda p: "cold" if p.slots["land"] == "Spain" else "hot",
    attributes=("climate",),
    irrelevant=("kin",),
    contrasts=("climate",),
)
"""
    )
    told = CliRunner().invoke(cli, ["tasks", str(path), "-m", "tiny-neox", "--explain", "--json"])
    explained = json.loads(told.stdout)
    dropped = {row["what"]: row["why"] for row in explained["dropped"]}
    words = next(why for what, why in dropped.items() if what.startswith("template went"))
    assert "'flew'" in words
    assert "'weather'" in words
    assert dropped["kin xyzzy"] == "not in the vocabulary"
    assert "no template suits" in explained["remedies"][0]
    assert "Nothing needs to be mended." not in explained["remedies"]


def test_what_is_dropped_is_explained_with_a_remedy(tmp_path: Path) -> None:
    """A word without a space before it is not one that the tiny vocabularies hold."""
    _run("new-task", "mine", "--folder", str(tmp_path))
    path = tmp_path / "mine.py"
    path.write_text(path.read_text().replace("So everyone knew {name}", "{name}"))
    told = CliRunner().invoke(cli, ["tasks", str(path), "-m", "tiny-neox", "--explain", "--json"])
    explained = json.loads(told.stdout)
    (name,) = (row for row in explained["slots"] if row["slot"] == "name")
    assert name["kept"] == "0 of 16"
    assert any("because/late (name)" in remedy for remedy in explained["remedies"])
    assert _run_module("tasks", "ioi", "--explain").returncode == 2


def test_a_new_task_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("precious")
    assert "exists already" in _refused("new-task", "mine", "--folder", str(tmp_path))
    assert (tmp_path / "mine.py").read_text() == "precious"
    assert "cannot name a task" in _refused("new-task", "not a name", "--folder", str(tmp_path))


def test_discover_prints_sections_and_writes_them_with_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = "discover wired --model wired --contrast quality --pairs 24 --out"
    assert "quality" in _run(*command.split(), str(out))
    assert json.loads(out.read_text())["findings"]["quality"]["n"] == 24
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("tasks ioo", "Did you mean 'ioi'"),
        ("tasks ioi --model gpt2-smal", "Did you mean 'gpt2-small'"),
        ("discover wired --model wired -c qualty", "Did you mean 'quality'"),
        ("check iio", "Did you mean 'ioi'"),
        ("train-sae --model wired --hook 0.resid_pre --out never", "--task NAME"),
        ("train-sae --model wired --hook 0.0.q --task wired --out never", "residual stream"),
        (
            "score wired --model wired --sae gpt2-small-res-j --out never",
            "Did you mean 'gpt2-small-res-jb'",
        ),
    ],
)
def test_wrong_names_are_refused_with_the_right_ones(command: str, says: str) -> None:
    assert says in _refused(*command.split())
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [("discover", "--attribute", "--contrast"), ("score", "--prompts", "--pairs")],
)
def test_an_old_word_means_what_the_new_one_does_and_is_not_shown(
    command: str, old: str, new: str
) -> None:
    parser = cli.commands[command].make_parser(_context(command))
    given = [parser.parse_args([word, "7"])[0] for word in (old, new)]
    assert given[0] == given[1] != {}
    shown = _run(command, "--help")
    assert new in shown
    assert old not in shown


def test_the_old_letter_of_a_contrast_still_works() -> None:
    assert "Did you mean 'quality'" in _refused(*"discover wired -m wired -a qualty".split())


def test_choices_are_those_of_the_library() -> None:
    """Named in the commands as well, so that their help loads no library."""
    assert cli_options.BACKENDS == BACKENDS
    assert tuple(NAMED_OPTIONS) == scoring.ALSO
    assert tuple(PLANS) == run_settings.PLAN_NAMES
    assert discovering.METHODS == METHODS


def test_errors_exit_1_and_wrong_usage_2_without_a_traceback() -> None:
    for command, code in (("tasks ioo", 1), ("tasks --no-such-option", 2), ("nonsense", 2)):
        done = _run_module(*command.split())
        assert done.returncode == code
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = _run_module("--debug", "tasks", "ioo")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_train_sae_writes_one_that_loads(tmp_path: Path) -> None:
    from sage.saes.formats import load_file

    out = tmp_path / "sae"
    training = "--hook 2.resid_pre --architecture topk --k 4 --width 32 --steps 12 --batch 64"
    text = "--task wired --prompts 60 --snapshot 0"
    _run("train-sae", "--model", "wired", *training.split(), *text.split(), "--out", str(out))
    sae = load_file(out)
    assert (sae.width, str(sae.hook), sae.reads_bos) == (32, "2.resid_pre@*", False)
    assert sae.stated.l0 == 4.0
    assert (out / "snapshots" / "step_000000" / "cfg.json").is_file()


def test_a_text_file_is_something_to_train_on(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("My dog is red, your cat is blue; so dog is\n" * 40)
    training = "--hook 0.resid_pre --architecture relu --width 16 --steps 4 --batch 32"
    files = ("--text", str(text), "--out", str(tmp_path / "sae"))
    _run("train-sae", "--model", "wired", *training.split(), *files)
    assert (tmp_path / "sae" / "sae_weights.safetensors").is_file()


# The wired task with one contrast, as a user's own file.
FEW = """
from dataclasses import replace

from sage.task.catalog import load_task

task = replace(load_task("wired"), name="few", contrasts=("quality",))
"""
QUICK = ("--model", "wired", "--plan", "quick", "--pairs", "40")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command that scores it."""
    path = tmp_path_factory.mktemp("task") / "few.py"
    path.write_text(FEW)
    return ("score", str(path), *QUICK)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Specs of two suites whose latents are the wired model's own features: at one place, and at
    all."""
    from sage.models.load import load_model
    from sage.saes.planted import save_planted

    hooks = load_model("wired").anatomy.hooks
    folders = save_planted(hooks, tmp_path_factory.mktemp("planted"))
    return [str(folders[2]), "+".join(map(str, folders))]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def scored(quick: tuple[str, ...], planted: list[str], out: Path) -> Invocation:
    """The first suite, with two seeds."""
    return _invoke(*quick, "--sae", planted[0], "--out", str(out), "--seeds", "2")


def test_several_seeds_give_a_mean_and_its_t_interval(scored: Invocation, out: Path) -> None:
    assert re.search(r" (1\.00|\.\d\d) \[-?(1\.00|\.\d\d), ", scored.stdout)
    assert re.search(r"\bseeds\b.*\bsd\b", scored.stdout)
    assert "Note: Plan quick-pairs-40: pairs 40 instead of 500; " in scored.stdout
    assert "Found" not in scored.stderr
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    assert names[:2] == [
        "few--wired--quick-pairs-40--seed0",
        "few--wired--quick-pairs-40--seed1",
    ]


@pytest.mark.usefixtures("scored")
def test_a_result_folder_grows_and_what_stands_there_is_not_scored_again(
    quick: tuple[str, ...], planted: list[str], out: Path
) -> None:
    part, whole = planted
    grown = _invoke(*quick, "--sae", part, "--sae", whole, "--out", str(out), "--json")
    assert f"Found {part} in {out}" in grown.stderr
    assert "not scored again (--again does)" in grown.stderr
    rows = json.loads(grown.stdout)
    assert [row["suite"] for row in rows] == [part, whole]
    assert rows[1]["sage"] == pytest.approx(1, abs=0.05)
    folder = out / "few--wired--quick-pairs-40--seed0"
    assert [suite.id for suite in load_result(folder).suites] == [part, whole]


def test_what_a_run_will_do_and_how_long_it_takes_is_said_before_it_starts(
    scored: Invocation,
) -> None:
    lines = scored.stderr.splitlines()
    what = (
        r"few on wired, plan quick-pairs-40, seed \d: .*; \d+ contrasts? with .*40 test pairs each"
    )
    assert [bool(re.match(what, line)) for line in lines[:3]] == [True, True, False]
    how_long = r"This will take about \d+ \w+ of the processor \(.*\), \d+ \w+ by the clock"
    assert re.match(how_long, lines[2])
    cell = "few--wired--quick-pairs-40--seed1"
    assert [line for line in lines if line.startswith(f"{cell}: gate done; ")]
    assert [
        line for line in lines if re.match(rf"{cell}: \d+ nodes in \d+ sections?, so about", line)
    ]
    assert f"{cell} done; 100 % of the work" in lines


@pytest.mark.usefixtures("scored")
def test_a_run_file_holds_the_run_and_does_it_again(
    quick: tuple[str, ...], planted: list[str], out: Path, tmp_path: Path
) -> None:
    """What the command line says goes before what the file says; quiet, nothing but results."""
    path = tmp_path / "run.toml"
    saved = _invoke(*quick, "--sae", planted[0], "--out", str(out), "--save-plan", str(path))
    assert f"Wrote {path}" in saved.stderr
    run = read_run_file(path)
    assert (run.tasks, run.model, run.saes) == ((quick[1],), "wired", (planted[0],))
    assert run.plan == make_plan("quick", pairs=40)
    again = _invoke("score", "--plan", str(path), "--json", "-q")
    assert again.stderr == ""
    assert json.loads(again.stdout)[0]["suite"] == planted[0]
    assert "Found" in _invoke("score", "--plan", str(path), "--seed", "1").stderr


def test_a_run_without_a_task_model_or_sae_is_wrong_usage() -> None:
    done = _run_module("score", "--model", "wired", "--out", "never")
    assert done.returncode == 2
    assert "Say TASKS, --sae, or give a run file: --plan FILE.toml." in done.stderr
    assert _run_module("score", "wired", "--plan", "fast").returncode == 2
    assert _run_module("demo", "-q", "-v").returncode == 2


@pytest.mark.parametrize("command", ["score", "discover", "check", "demo", "tasks", "train-sae"])
def test_every_long_command_can_be_quiet_or_tell_everything(command: str) -> None:
    shown = _run(command, "--help")
    assert "-q, --quiet" in shown
    assert "-v, --verbose" in shown


def test_screening_needs_no_folder_and_ranks_by_move(
    quick: tuple[str, ...], planted: list[str]
) -> None:
    rows = _json(*quick, "--sae", planted[0], "--sae", planted[1], "--screen")
    assert {row["suite"] for row in rows} == set(planted)
    moves = [row["move"] for row in rows if row["contrast"] == "quality"]
    assert moves[0] == pytest.approx(1, abs=0.01)


def test_scores_need_a_folder_to_go_to() -> None:
    done = _run_module("score", "wired", *QUICK, "--sae", "never")
    assert done.returncode == 2
    assert "Say where results go: --out DIR" in done.stderr


def test_export_writes_every_row_as_csv_and_a_record_per_suite(tmp_path: Path) -> None:
    import pandas as pd

    result = _result()
    folder = save_result(result, tmp_path / "result").parent
    _run("export", str(folder), "--out", str(tmp_path / "rows.csv"))
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert len(rows) == len(result.rows)
    first = rows.iloc[0]
    assert list(rows.columns[:3]) == ["task", "model", "plan"]
    assert (first.best_control, first.best_control_value, first.gain) == ("PCA", 0.125, 0.375)


def test_export_writes_one_object_of_plain_numbers_for_each_suite(tmp_path: Path) -> None:
    folder = save_result(_result(), tmp_path / "result").parent
    _run("export", str(folder), "--out", str(tmp_path / "record.json"))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["eval_type_id"] == "sage"
    assert record["eval_result_metrics"] == {
        "sage": {
            "control": 0.5,
            "control_best_control": 0.125,
            "control_gain": 0.375,
            "control_supervised": 0.75,
            "control_contrasts": 1,
        }
    }
    (detail,) = record["eval_result_details"]
    assert (detail["contrast"], detail["control"], detail["approximation"]) == ("IO", 0.5, None)
    assert isinstance(record["sae_bench_commit_hash"], str)
    assert (record["sae_cfg_dict"]["architecture"], record["sae_cfg_dict"]["d_sae"]) == ("topk", 8)
    refused = _refused("export", str(folder), "--out", str(tmp_path / "rows.xml"))
    assert "end in .csv" in refused


def test_export_searches_a_folder_and_brings_the_suites_of_a_cell_together(tmp_path: Path) -> None:
    result = _result()
    other = replace(result, suites=[replace(result.suites[0], id="b/c")], rows=[])
    save_result(result, tmp_path / "in" / "one")
    save_result(other, tmp_path / "in" / "two")
    _run("export", str(tmp_path / "in"), "--out", str(tmp_path / "records"))
    files = sorted((tmp_path / "records").rglob("*.json"))
    assert [str(file.relative_to(tmp_path / "records")) for file in files] == [
        "toy--toy--standard--seed0/a_eval_results.json",
        "toy--toy--standard--seed0/b_c_eval_results.json",
    ]
    told = _refused("export", str(tmp_path / "in"), "--out", str(tmp_path / "records.json"))
    assert "Give a folder instead" in told


def test_export_does_not_write_one_cell_over_another_version_of_it(tmp_path: Path) -> None:
    result = _result()
    told = replace(result, run=replace(result.run, scores={"control": 9}))
    save_result(result, tmp_path / "in" / "one")
    save_result(told, tmp_path / "in" / "two")
    refused = _refused("export", str(tmp_path / "in"), "--out", str(tmp_path / "records"))
    assert "would be one file. Export them apart" in refused


def test_saebench_reads_what_is_exported(tmp_path: Path) -> None:
    """By its own definition of an evaluation's output, with our metrics for a category."""
    base = pytest.importorskip("sae_bench.evals.base_eval_output")
    from pydantic import TypeAdapter, create_model

    folder = save_result(_result(), tmp_path / "result").parent
    _run("export", str(folder), "--out", str(tmp_path / "record.json"))
    text = (tmp_path / "record.json").read_text()
    read = TypeAdapter(base.BaseEvalOutput[Any, Any, Any]).validate_json(text)
    assert read.eval_type_id == "sage"
    for category in json.loads(text)["eval_result_metrics"].values():
        fields = dict.fromkeys(category, (float, ...))
        create_model("Metrics", **fields).model_validate(category)
    assert not any(
        isinstance(value, dict)
        for category in read.eval_result_metrics.values()
        for value in category.values()
    )


def test_the_cache_is_told_kind_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sage.store.key import Key
    from sage.store.store import user_store

    monkeypatch.setenv("SAGE_CACHE", str(tmp_path))
    store = user_store()
    for number in range(3):
        store.once("gate", Key("ioi on toy", f"{number}" * 64), lambda: "x")
    (row,) = _json("cache")
    assert (row["kind"], row["entries"]) == ("gate", 3)
    assert "Freed" in _run("cache", "--clear")
    assert _json("cache") == []


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**_: object) -> None:
        raise click.exceptions.Abort

    monkeypatch.setattr(cli, "main", interrupt)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert "when the same command is given again" in capsys.readouterr().err


def test_main_prints_errors_of_sage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sage", "tasks", "ioo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("sage: No task is named 'ioo'")


def _run(*arguments: str) -> str:
    return _invoke(*arguments).stdout


def _invoke(*arguments: str) -> Invocation:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def _run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sage", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _context(command: str) -> click.Context:
    named = cli.commands[command]
    return click.Context(named, info_name=command, **named.context_settings)


def _json(*arguments: str) -> list[dict[str, object]]:
    return json.loads(_run(*arguments, "--json"))


def _refused(*arguments: str) -> str:
    from sage.errors import SageError

    with pytest.raises(SageError) as refused:
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    return str(refused.value)


def _result() -> Result:
    suite = SuiteInfo("a", [SAEInfo("a/0", "topk", "0.resid_pre@*", 8, 2.0, 0.5)], {"IO": 1.0})
    control = Row("*", "a", "a", "control", "*", 0.5, 3, version=2, contrasts=1)
    control = replace(control, best_control=BestControl("PCA", 0.125), gain=0.375)
    why = "undefined: x"
    return Result(
        task=TaskInfo("toy", "nowhere", "0" * 64),
        model=ModelInfo("toy", "1" * 64, "by hand", "float32", 16),
        run=RunInfo("0.1.0", 0, {"test": 3}, "2026-01-01T00:00:00+00:00", 1.0, 2.0),
        gate=Gate(1.0, 2.0, 3, 0.75, passed=True),
        sections=[SectionInfo("IO", "IO", ["0.mlp_in@END"], 1.0)],
        suites=[suite],
        discovery=[],
        rows=[
            control,
            replace(control, dictionary="supervised", value=0.75, gain=0.625),
            replace(control, section="IO", contrast="IO", contrasts=None),
            Row("IO", "a", "a", "approximation", "IO", None, 3, version=2, status=why),
        ],
    )
