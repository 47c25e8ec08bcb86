"""A sweep: its file, its cells, what is said before it starts, and what comes of it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from beside import Beside
from sage.cells import joined
from sage.cli import cli
from sage.errors import BadFile, SageError, UnknownName
from sage.evaluation import Evaluation
from sage.files import one_process_at_once
from sage.progress import StagePath
from sage.result_file import load_result, save_result
from sage.run import make_plan
from sage.run_file import RunFile
from sage.side_by_side import Job
from sage.sweep.ahead import CellAhead, look_at_sweep
from sage.sweep.cells import SweepCell, sweep_cells
from sage.sweep.file import Screening, SweepFile, example, read_sweep_file
from sage.sweep.parts import join_others, join_parts, part_folder
from sage.sweep.run import run_sweep
from sage.sweep.scoring import CellEnd
from sage.sweep.screened import (
    Picked,
    ScreenedCell,
    SuiteMove,
    choose,
    mean_moves,
    ranked_alike,
    screen_cell,
)
from sage.sweep.workers import Made
from small_results import result as small_result
from tests.sweeps import write_sweep

DOCS = Path(__file__).parents[1] / "docs" / "cluster.md"
LEAST = """
tasks = ["ioi"]
out = "out"
[[models]]
model = "tiny-gpt2"
saes = ["tiny-gpt2/topk4"]
"""


def read(folder: Path, text: str) -> SweepFile:
    (folder / "sweep.toml").write_text(text)
    return read_sweep_file(folder / "sweep.toml")


# The file


def test_a_file_is_a_run_for_each_model_with_what_is_set_apart_for_it(tmp_path: Path) -> None:
    sweep = read(
        tmp_path,
        'tasks = ["ioi", "successor"]\nseeds = 2\nout = "out"\ndtype = "bfloat16"\ntogether = 3\n'
        '[[models]]\nmodel = "a"\nsaes = ["x", "y"]\n'
        '[[models]]\nmodel = "b"\nsaes = ["z"]\ntasks = ["ioi"]\ndtype = "float32"\nnulls = true\n'
        '[screen]\nbest = 2\n[plan]\nbase = "quick"\nseed = 7\n',
    )
    plan = make_plan("quick", seed=7)
    first = RunFile(
        ("ioi", "successor"), "a", dtype="bfloat16", saes=("x", "y"), seeds=2, out="out", plan=plan
    )
    second = replace(first, tasks=("ioi",), model="b", dtype="float32", saes=("z",), nulls=True)
    assert sweep == SweepFile((first, second), 3, Screening(2, 5))


def test_the_example_and_the_page_describe_sweeps_that_can_be_read(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["sweep", "--example"])
    assert printed.output == example()
    sweep = read(tmp_path, printed.output)
    assert [run.model for run in sweep.runs] == ["tiny-neox", "tiny-gpt2"]
    assert {run.plan for run in sweep.runs} == {make_plan("quick")}
    (block,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    page = read(tmp_path, block)
    assert [(run.tasks, run.seeds) for run in page.runs] == [
        (("gendered_pronoun", "country_capital", "successor"), 2), (("gendered_pronoun",), 2),
    ]  # fmt: skip
    # Three tasks and two seeds of one suite group, one task and two seeds of three groups.
    assert len(sweep_cells(page)) == 3 * 2 + 2 * 3


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (LEAST.replace('out = "out"\n', ""), BadFile, "names no result folder"),
        (LEAST.partition("[[")[0], BadFile, "names no model"),
        (LEAST.replace('tasks = ["ioi"]\n', ""), BadFile, "number 1 has no tasks"),
        (LEAST.replace("saes", "sae"), UnknownName, "models.sae"),
        (LEAST.replace("[[models]]", "[models]"), BadFile, r"each below \[\[models\]\]"),
        (f"{LEAST}[[plans]]\nbase = 'quick'\n", UnknownName, "plans"),
        (f"{LEAST}out = 'here'\n", UnknownName, "models.out"),
        (f"together = 0\n{LEAST}", BadFile, "must be 1 or more"),
        (
            LEAST + LEAST.partition("[[models]]")[1] + LEAST.partition("[[models]]")[2],
            BadFile,
            "ioi on tiny-gpt2 2 times",
        ),
    ],
)
def test_what_a_file_cannot_mean_is_refused(
    tmp_path: Path, text: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read(tmp_path, text)


# Cells


def small_sweep(out: Path, *, together: int = 2, seeds: int = 2) -> SweepFile:
    suites = tuple(f"tiny-neox/{name}" for name in ("topk4", "topk8", "topk16"))
    run = RunFile(
        ("ioi", "successor"), "tiny-neox", saes=suites, seeds=seeds, out=str(out),
        plan=make_plan("quick"),
    )  # fmt: skip
    return SweepFile((run,), together)


def test_the_first_suites_of_every_cell_come_before_any_others(tmp_path: Path) -> None:
    cells = sweep_cells(small_sweep(tmp_path))
    first, second = ("tiny-neox/topk4", "tiny-neox/topk8"), ("tiny-neox/topk16",)
    places = [(0, "ioi"), (0, "successor"), (1, "ioi"), (1, "successor")]
    assert [(c.plan.seed, c.task, c.suites, c.group, c.groups) for c in cells] == [
        *((seed, task, first, 0, 2) for seed, task in places),
        *((seed, task, second, 1, 2) for seed, task in places),
    ]
    assert all(cell.run.seeds == 1 for cell in cells)


def test_suites_that_screening_leaves_out_are_in_no_cell(tmp_path: Path) -> None:
    cells = sweep_cells(small_sweep(tmp_path, seeds=1), {"tiny-neox": {"tiny-neox/topk16"}})
    assert [cell.suites for cell in cells] == [("tiny-neox/topk16",)] * 2
    assert sweep_cells(small_sweep(tmp_path), {}) == []


# Before it starts


def test_one_cell_of_each_task_is_looked_at_and_others_are_like_it(tmp_path: Path) -> None:
    """ioi costs 4 s for each of two suites. Of successor seed 0 stands there already, whole, so
    that seed 1 is looked at in its place."""
    for name in ("topk4", "topk8", "topk16"):
        folder = tmp_path / "successor--tiny-neox--quick--seed0"
        before = load_result(folder).suites if folder.exists() else []
        names = [*(suite.id for suite in before), f"tiny-neox/{name}"]
        save_result(small_result(*names), folder)
    looked: list[tuple[str, int]] = []

    def look(cells: Sequence[SweepCell]) -> list[CellAhead]:
        looked.extend((cell.task, cell.plan.seed) for cell in cells)
        return [look_at_one(cell) for cell in cells]

    def look_at_one(cell: SweepCell) -> CellAhead:
        name = f"{cell.task}--tiny-neox--quick--seed{cell.plan.seed}"
        if (tmp_path / name).exists():
            return CellAhead(cell, name, found=cell.suites)
        stages: dict[StagePath, float] = {("scores",): 6.0, ("result",): 2.0}
        return CellAhead(cell, name, (), cell.suites, stages, low=6.0, high=10.0)

    cells = sweep_cells(small_sweep(tmp_path))
    ahead = look_at_sweep(cells, look, again=False)
    assert looked == [("ioi", 0), ("successor", 0), ("successor", 1)]
    told = {(of.cell.task, of.cell.plan.seed, of.cell.group): of for of in ahead}
    assert [of.cell for of in ahead] == cells
    assert told["ioi", 1, 0].seconds == 8.0
    last = told["ioi", 1, 1]
    assert (last.name, last.to_do) == ("ioi--tiny-neox--quick--seed1", ("tiny-neox/topk16",))
    assert (last.seconds, last.low, last.high) == (4.0, 3.0, 5.0)
    assert last.stages == {("scores",): 3.0, ("result",): 1.0}
    standing = [told["successor", 0, group] for group in (0, 1)]
    assert [len(of.found) for of in standing] == [2, 1]
    assert [of.seconds for of in standing] == [0.0, 0.0]


# What comes of it


class Here:
    """Runs cells in this process, the last one first."""

    count = 1

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        made: list[Made] = []
        for job in reversed(jobs):
            made.append(run(job.given))
            ended(made[-1])
        return made[::-1]


def test_a_cell_that_fails_says_why_and_the_others_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sage.sweep.scoring

    def scored(cell: SweepCell, *, again: bool) -> CellEnd:
        assert not again
        if cell.task == "ioi":
            raise BadFile("no such thing")
        return CellEnd(cell.title, str(tmp_path), scored=cell.suites)

    monkeypatch.setattr(sage.sweep.scoring, "_scored", scored)
    cells = sweep_cells(small_sweep(tmp_path, together=8, seeds=1))
    told: list[str] = []
    ends = run_sweep(
        [CellAhead(cell) for cell in cells], Here(), ended=lambda end: told.append(end.title)
    )
    assert [(end.why, len(end.scored)) for end in ends] == [("no such thing", 0), ("", 3)]
    assert told == ["successor on tiny-neox, seed 0", "ioi on tiny-neox, seed 0"]


def test_parts_join_their_cell_in_the_order_of_the_file_whoever_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part is scored before the first; the cell, with a suite that stood there, is as
    if all had been scored in turn."""
    import sage.sweep.scoring

    whole = tmp_path / "cell"
    save_result(small_result("old"), whole)

    def scored(cell: SweepCell, *, again: bool) -> CellEnd:
        del again
        part = tmp_path / ".parts" / str(cell.group) / "cell"
        save_result(small_result(*cell.suites), part)
        assert [suite.id for suite in load_result(whole).suites] == ["old"]
        return CellEnd(cell.title, str(whole), str(part), scored=cell.suites)

    monkeypatch.setattr(sage.sweep.scoring, "_scored", scored)
    cells = sweep_cells(small_sweep(tmp_path, seeds=1))
    run_sweep([CellAhead(cell) for cell in cells if cell.task == "ioi"], Here())
    expected = small_result("old", "tiny-neox/topk4", "tiny-neox/topk8", "tiny-neox/topk16")
    joined = load_result(whole)
    assert replace(joined, run=expected.run) == expected
    assert not (tmp_path / ".parts").exists()


def test_parts_that_two_processes_join_at_once_are_all_in_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second joins just when the first has read what stands in the cell, and not yet
    written."""
    whole = tmp_path / "cell"

    def part(name: str) -> Path:
        folder = tmp_path / ".parts" / name / "cell"
        with one_process_at_once(folder):
            save_result(small_result(name), folder)
        return folder

    first, second = part("first"), Beside(partial(join_parts, whole, [part("second")]))

    def joined_late(before: Any, scored: Evaluation, *where: Any, **how: Any) -> Evaluation:
        if scored.result.suites[0].id == "first":
            second.start()
        return joined(before, scored, *where, **how)

    monkeypatch.setattr("sage.sweep.parts.joined", joined_late)
    join_parts(whole, [first])
    assert second.end() is None
    assert [suite.id for suite in load_result(whole).suites] == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cell"]


def test_a_part_of_another_state_of_its_cell_is_refused_and_kept(tmp_path: Path) -> None:
    whole, part = tmp_path / "cell", tmp_path / "part"
    save_result(small_result("old"), whole)
    other = small_result("new")
    save_result(replace(other, task=replace(other.task, sha256="ff")), part)
    with pytest.raises(BadFile, match="the task differs"):
        join_parts(whole, [part])
    assert part.is_dir()
    join_parts(whole, [part], again=True)
    assert [suite.id for suite in load_result(whole).suites] == ["new"]


def test_parts_that_cannot_join_are_told_as_a_failure_of_their_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell of two parts on each of two tasks: ioi has become another task meanwhile."""
    import sage.sweep.scoring

    def scored(cell: SweepCell, *, again: bool) -> CellEnd:
        del again
        folder = tmp_path / cell.task
        part = part_folder(folder, cell.suites)
        save_result(small_result(*cell.suites), part)
        return CellEnd(cell.title, str(folder), str(part), scored=cell.suites)

    monkeypatch.setattr(sage.sweep.scoring, "_scored", scored)
    before = small_result("old")
    save_result(replace(before, task=replace(before.task, sha256="ff")), tmp_path / "ioi")
    cells = sweep_cells(small_sweep(tmp_path, seeds=1))
    ends = run_sweep([CellAhead(cell) for cell in cells], Here())
    assert [end.title for end in ends if end.why] == ["ioi on tiny-neox, seed 0, part 1 of 2"]
    assert "the task differs" in ends[0].why
    assert len(load_result(tmp_path / "successor").suites) == 3


def test_what_another_sweep_left_of_a_cell_joins_it_and_no_part_is_left(tmp_path: Path) -> None:
    """The cell has a and b. One part left is of b and c, one of another task, one is unfinished;
    another process is at the last, and it stays."""
    whole = tmp_path / "cell"
    save_result(small_result("a", "b"), whole)
    other = small_result("d")
    parts = [part_folder(whole, names) for names in (("b", "c"), ("d",), ("e",), ("f",))]
    save_result(small_result("b", "c"), parts[0])
    save_result(replace(other, task=replace(other.task, sha256="ff")), parts[1])
    (parts[2] / ".scoring").mkdir(parents=True)
    save_result(small_result("f"), parts[3])
    with one_process_at_once(parts[3]):
        join_others(whole)
    assert [suite.id for suite in load_result(whole).suites] == ["a", "b", "c"]
    assert [part.is_dir() for part in parts] == [False, False, False, True]
    join_others(whole, again=True)
    assert [suite.id for suite in load_result(whole).suites] == ["a", "b", "c"]
    assert not (tmp_path / ".parts").exists()


# Screening


def screened(sweep: SweepFile, task: str, moves: dict[str, float | None]) -> ScreenedCell:
    run = replace(sweep.runs[0], tasks=(task,))
    return ScreenedCell(
        SweepCell(run, tuple(moves)), [{"suite": s, "move": m} for s, m in moves.items()]
    )


def test_what_was_screened_is_found_unless_the_task_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third file has the name of the others, and one word less."""
    asked: list[str] = []
    monkeypatch.setattr(
        "sage.sweep.screened.screen", lambda *_, **__: asked.append("screened") or []
    )
    cell = sweep_cells(write_sweep(tmp_path))[0]
    file = Path(cell.task)
    source = file.read_text()
    for text in (source, source, source.replace('"thus", ', "", 1)):
        file.write_text(text)
        assert screen_cell(cell).why == ""
    assert len(asked) == 2


def test_suites_are_ranked_by_their_mean_move_over_all_contrasts(tmp_path: Path) -> None:
    """b: (.5 + .2)/2; a reaches nothing on one task: (.6 + 0)/2."""
    sweep = small_sweep(tmp_path)
    cells = [
        screened(sweep, "ioi", {"a": 0.6, "b": 0.5}),
        screened(sweep, "successor", {"a": None, "b": 0.2}),
    ]
    assert mean_moves(cells) == [
        SuiteMove("tiny-neox", "b", 0.35, 2), SuiteMove("tiny-neox", "a", 0.3, 2),
    ]  # fmt: skip


def test_the_best_and_a_sample_of_the_others_are_scored_the_same_ones_each_time(
    tmp_path: Path,
) -> None:
    sweep = replace(small_sweep(tmp_path), screening=Screening(2, 3))
    moves = [SuiteMove("m", f"s{n}", 1 - n / 10, 4) for n in range(9)]
    picked = choose(moves, sweep)["m"]
    assert picked.best == ("s0", "s1")
    assert len(set(picked.sample)) == 3
    assert set(picked.sample) <= {f"s{n}" for n in range(2, 9)}
    assert choose(moves, sweep)["m"] == picked
    samples = {
        choose(moves, replace(sweep, runs=(replace(run, plan=make_plan(seed=seed)),)))["m"].sample
        for run in sweep.runs
        for seed in range(9)
    }
    assert len(samples) > 3
    few = choose(moves[:3], sweep)["m"]
    assert (few.best, few.sample) == (("s0", "s1"), ("s2",))


def test_pairs_of_the_sample_say_how_far_move_is_to_be_believed() -> None:
    """b, c and d were drawn: move has b > c > d, the score c > b > d; d has none on model n."""
    moves = [
        SuiteMove("m", name, move, 1)
        for name, move in zip("abcd", (0.9, 0.6, 0.5, 0.1), strict=True)
    ]
    moves += [SuiteMove("n", name, move, 1) for name, move in zip("bd", (0.2, 0.1), strict=True)]
    picked = {"m": Picked(("a",), ("b", "c", "d")), "n": Picked((), ("b", "d"))}
    scores = {("m", "a"): 0.0, ("m", "b"): 0.4, ("m", "c"): 0.7, ("m", "d"): 0.2, ("n", "b"): 0.1}
    assert ranked_alike(moves, picked, scores) == (2, 3)


# Workers on Ray, without a cluster


def test_a_worker_stays_with_its_model_and_takes_the_one_with_the_most_work_for_each_at_it() -> (
    None
):
    from sage.sweep.on_ray.jobs import JobsUnderWay
    from sage.sweep.on_ray.pool import Actor, ActorPool

    def job(model: str, seconds: float) -> Job[SweepCell]:
        run = RunFile(("ioi",), model, saes=("x",))
        return Job(model, SweepCell(run, ("x",)), {("scores",): seconds})

    jobs = [job("a", 1.0), job("b", 6.0), job("b", 6.0), job("c", 8.0), job("a", 1.0)]
    models = [of.given.model for of in jobs]
    free, new = Actor(None, model=models[0]), Actor(None)
    at_b = Actor(None, model=models[1], place=1)
    pool = ActorPool(3, 0.0, lambda _: None, [free, at_b, new])
    under_way = JobsUnderWay(pool, lambda cell: cell, jobs, lambda _: None)
    under_way.waiting = [0, 2, 3, 4]
    # a's own worker stays; for another b has 6 s for two workers, c 8 s for one.
    assert (under_way.next_for(free), under_way.next_for(new)) == (0, 3)
    under_way.waiting = [2, 4]
    assert (under_way.next_for(free), under_way.next_for(new)) == (4, 2)


def test_a_node_with_other_versions_or_without_the_folder_says_so(tmp_path: Path) -> None:
    from sage.sweep.on_ray.actor import RayWorker, surroundings

    here = surroundings(gpus=0.0)
    other = replace(here, versions={"sage": "0.0.1", "torch": "1.0"})
    with pytest.raises(SageError, match=r"with sage 0\.0\.1 and torch 1\.0"):
        RayWorker().ready(other)
    with pytest.raises(SageError, match=r"cannot go to .*absent"):
        RayWorker().ready(replace(here, folder=str(tmp_path / "absent")))


def test_an_address_at_which_nothing_listens_is_refused_at_once() -> None:
    pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")
    from sage.sweep.on_ray.cluster import ray_workers

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(SageError, match=f"No Ray cluster can be reached at {address}"):
            ray_workers(address).__enter__()


@pytest.mark.parametrize(
    ("resources", "gpus", "says"),
    [({"CPU": 4.0}, 0.5, "no room for a worker with 0.5 GPUs"), (None, 0.0, "gone")],
)
def test_a_cluster_that_is_of_no_use_is_let_go(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float] | None, gpus: float, says: str
) -> None:
    from sage.sweep.on_ray import cluster

    called: list[str] = []

    def cluster_resources() -> dict[str, float]:
        if resources is None:
            raise ConnectionError("gone")
        return resources

    fake = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: called.append("init"),
        cluster_resources=cluster_resources,
        shutdown=lambda: called.append("shutdown"),
    )
    monkeypatch.setattr(cluster, "_import_ray", lambda: fake)
    with pytest.raises((SageError, ConnectionError), match=says):
        cluster.ray_workers("auto", gpus=gpus).__enter__()
    assert called == ["init", "shutdown"]


def test_a_sweep_with_a_cell_that_fails_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sage.sweep.workers

    def side_by_side(
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        *,
        processes: int,
        ended: Callable[[Made], None],
    ) -> list[Made]:
        assert processes == 1
        return Here().run(run, jobs, ended)

    monkeypatch.setattr(sage.sweep.workers, "side_by_side", side_by_side)
    text = LEAST.replace('"out"', json.dumps(str(tmp_path / "out")))
    (tmp_path / "sweep.toml").write_text(text.replace('"tiny-gpt2"', '"tiny"'))
    told = CliRunner().invoke(cli, ["sweep", str(tmp_path / "sweep.toml"), "-q", "--workers", "4"])
    assert told.exit_code == 1
    assert "Failed: ioi on tiny, seed 0. No model is named 'tiny'" in told.output


def test_usage() -> None:
    for arguments, says in (
        ([], "Say which FILE"),
        (["x", "--gpus", "1"], "--gpus is for workers on Ray"),
    ):
        told = CliRunner().invoke(cli, ["sweep", *arguments])
        assert told.exit_code == 2
        assert says in told.output
