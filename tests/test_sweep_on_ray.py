"""A sweep on a real Ray cluster of two workers, one of which is killed in the middle."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from sage.sweep.ahead import CellAhead
from sage.sweep.cells import sweep_cells
from sage.sweep.run import run_sweep
from sage.sweep.workers import Processes
from tests.sweeps import found_in, into, write_sweep

pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")


def kill_one_at_work(out: Path, killed: list[int]) -> None:
    """Kill a worker of this process's cluster once a cell is under way."""
    deadline = time.monotonic() + 200
    while not killed and time.monotonic() < deadline:
        time.sleep(0.05)
        if next(out.glob("*/.scoring/.unfinished/*/*"), None) is None:
            continue
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::RayWorker"):
                process.kill()
                killed.append(process.pid)
                return


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_loses_nothing_and_all_is_as_in_a_serial_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sage.sweep.on_ray import LOCAL, ray_workers

    sweep = write_sweep(tmp_path)
    serial = [CellAhead(cell) for cell in sweep_cells(into(sweep, tmp_path / "serial"))]
    assert [end.why for end in run_sweep(serial, Processes(1))] == ["", ""]

    # So that Ray's workers find nothing that the serial run kept.
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "cache"))
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_at_work, args=(sweep.out, killed), daemon=True)
    killer.start()
    cells = sweep_cells(sweep)
    with ray_workers(LOCAL, count=2) as workers:
        ends = run_sweep([CellAhead(cell) for cell in cells], workers)
    killer.join()
    assert (len(killed), workers.lost) == (1, 1)
    assert [(end.title, end.why) for end in ends] == [(cell.title, "") for cell in cells]
    found, expected = found_in(sweep.out), found_in(tmp_path / "serial")
    assert len(expected) == 2
    assert found == expected
    assert not list(tmp_path.rglob(".unfinished"))
