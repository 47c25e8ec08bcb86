"""A sweep on a real Ray cluster of two workers, which are lost in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch

from light_cells import (
    LightCell,
    die,
    die_at_first,
    double,
    half_and_wait,
    refuse,
    surroundings_of,
)
from sage.errors import SageError
from sage.progress import Stage, Watcher, stage, watching
from sage.side_by_side import Job
from sage.sweep.ahead import CellAhead
from sage.sweep.cells import SweepCell, sweep_cells
from sage.sweep.run import run_sweep
from sage.sweep.scoring import CellEnd
from sage.sweep.workers import Made, Workers
from tests.sweeps import found_in, into, write_sweep

pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")

from sage.sweep.on_ray.cluster import LOCAL, ray_workers
from sage.sweep.on_ray.jobs import RayWorkers

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayWorkers]:
    """Two workers with a cache of their own; nothing of their cluster is left in the end."""
    import ray

    others = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Where workers find light_cells.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with ray_workers(LOCAL, count=2) as workers:
            now = psutil.Process().children(recursive=True)
            yield workers
    assert not ray.is_initialized()
    begun = [process for process in now if process.pid not in others]
    _, left = psutil.wait_procs(begun, timeout=10)
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture
def said(cluster: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What workers have to say."""
    told: list[str] = []
    monkeypatch.setattr(cluster.pool, "say", told.append)
    return told


def run_light(
    workers: Workers, run: Callable[[LightCell], Made], folder: Path, *names: str
) -> list[Made]:
    jobs = [Job(name, LightCell(name, str(folder))) for name in names]
    any_run, any_jobs = cast("Callable[[Any], Made]", run), cast("Sequence[Job[Any]]", jobs)
    return workers.run(any_run, any_jobs, lambda _: None)


# Workers


def test_a_worker_is_where_the_command_is_and_takes_one_thread(
    cluster: RayWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster.pool.end()
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "cache"))
    (surroundings,) = run_light(cluster, surroundings_of, tmp_path, "one")
    cluster.pool.end()
    assert surroundings == {
        "SAGE_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "folder": str(tmp_path),
        "threads": 1,
    }


def test_the_job_of_a_worker_that_is_lost_is_run_again_and_made_in_its_place(
    cluster: RayWorkers, said: list[str], tmp_path: Path
) -> None:
    before = cluster.pool.lost
    names = ("a", "fatal", "b")
    assert run_light(cluster, die_at_first, tmp_path, *names) == ["aa", "fatalfatal", "bb"]
    assert cluster.pool.lost - before == 1
    assert said == ["A worker was lost; fatal is run again."]


def test_a_job_that_loses_every_worker_ends_the_sweep_and_leaves_no_worker_at_it(
    cluster: RayWorkers, tmp_path: Path
) -> None:
    with pytest.raises(SageError, match="3 workers were lost at fatal"):
        run_light(cluster, die, tmp_path, "fatal")
    assert cluster.pool.actors == []


def test_what_a_worker_raises_is_raised_as_it_is_and_the_next_sweep_finds_workers(
    cluster: RayWorkers, tmp_path: Path
) -> None:
    with pytest.raises(SageError) as raised:
        run_light(cluster, refuse, tmp_path, "this")
    assert str(raised.value) == "this cannot be.\nGive another."
    assert run_light(cluster, double, tmp_path, "a", "b") == ["aa", "bb"]


def test_a_process_on_ray_already_is_refused_and_left_on_it(
    cluster: RayWorkers, tmp_path: Path
) -> None:
    with pytest.raises(SageError, match="uses Ray already"):
        ray_workers(LOCAL).__enter__()
    assert run_light(cluster, double, tmp_path, "a") == ["aa"]


class SeesHalf(Watcher):
    """Leaves a note once half of all is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def moved(self, stage: Stage) -> None:
        if stage.around is None and stage.share >= 0.49:
            (self.folder / "seen").touch()


def test_how_far_all_is_counts_what_every_worker_has_done_of_its_job(
    cluster: RayWorkers, tmp_path: Path
) -> None:
    """Each of two does half of its job, and waits until it is seen that half of all is done."""
    with watching(SeesHalf(tmp_path)), stage("all"):
        assert run_light(cluster, half_and_wait, tmp_path, "a", "b") == ["aa", "bb"]


# A sweep


class Serial:
    """Cell by cell in this process, on one thread."""

    count = 1

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            made = [run(job.given) for job in jobs]
        finally:
            torch.set_num_threads(threads)
        for each in made:
            ended(each)
        return made


class Killer(threading.Thread):
    """Stops a worker once its cell is partly scored, and kills it when another cell has ended."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.other_ended = out, threading.Event()
        self.unfinished: list[str] = []

    def run(self) -> None:
        while not self.other_ended.wait(0.1):
            if (at_work := self._partly_scored()) is None:
                continue
            at_work.send_signal(signal.SIGSTOP)
            self.unfinished = [str(path) for path in self._unfinished()]
            if self.unfinished:
                self.other_ended.wait()
                at_work.kill()
                return
            at_work.send_signal(signal.SIGCONT)

    def _unfinished(self) -> list[Path]:
        return list(self.out.glob("*/.scoring/.unfinished/*/*"))

    def _partly_scored(self) -> psutil.Process | None:
        """The process that holds the lock of a cell of which a part lies there."""
        for path in self._unfinished():
            cell = self.out / path.relative_to(self.out).parts[0]
            lock = str(cell.with_name(f".{cell.name}.lock"))
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::RayWorker") and lock in _open_files(process):
                    return process
        return None


def _open_files(process: psutil.Process) -> set[str]:
    try:
        return {file.path for file in process.open_files()}
    except psutil.Error:
        return set()


def test_a_sweep_that_loses_a_worker_is_as_the_serial_one_to_the_last_bit(
    cluster: RayWorkers, said: list[str], tmp_path: Path
) -> None:
    sweep = write_sweep(tmp_path)
    serial = [CellAhead(cell) for cell in sweep_cells(into(sweep, tmp_path / "serial"))]
    assert [end.why for end in run_sweep(serial, Serial())] == ["", ""]

    cells, before = sweep_cells(sweep), cluster.pool.lost
    killer = Killer(sweep.out)
    killer.start()

    def tell_killer(end: CellEnd) -> None:
        del end
        killer.other_ended.set()

    ends = run_sweep([CellAhead(cell) for cell in cells], cluster, ended=tell_killer)
    killer.join()
    assert killer.unfinished
    assert cluster.pool.lost - before == len(said) == 1
    assert [(end.title, end.why) for end in ends] == [(cell.title, "") for cell in cells]
    found, expected = found_in(sweep.out), found_in(tmp_path / "serial")
    assert len(expected) == 2
    assert found == expected
    assert not list(tmp_path.rglob(".unfinished"))
