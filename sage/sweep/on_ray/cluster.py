"""A Ray cluster for as long as a sweep needs it: reached, or started on this machine alone."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from sage.errors import SageError
from sage.files import first_line
from sage.sweep.on_ray.jobs import RayWorkers
from sage.sweep.on_ray.pool import ActorPool

LOCAL = "local"
# Unless the environment says otherwise: nothing is sent to Ray's makers, a worker without a GPU is
# no reason to warn, and workers of a cluster that is started here are as urgent as the command.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}
# Seconds that reaching the head of a cluster may take.
_REACHING = 10.0
# Bytes for what workers send: cells and what came of them, never a model.
_MAIL = 2**27


@contextmanager
def ray_workers(
    address: str,
    *,
    count: int | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Generator[RayWorkers]:
    """Workers on the cluster at an address, "auto" on a machine that is part of it; on one that is
    started here, for as long as they are used, at "local".

    Each has one core and so many `gpus`; `count` of them at most, by default as many as the
    cluster has room for. They end with the block. SageError where Ray is not installed, is in use
    in this process already, or the cluster cannot be reached.
    """
    ray = _import_ray()
    if ray.is_initialized():
        raise SageError("This process uses Ray already. Call ray.shutdown() before a sweep.")
    _check_reached(address)
    try:
        _connect(ray, address, count or os.cpu_count() or 1)
        room = _room(ray.cluster_resources(), gpus)
        if room < 1:
            raise SageError(
                f"The cluster at {address} has no room for a worker with {gpus:g} GPUs."
            )
        # Ray tells of lost workers on stdout, which is for results.
        with redirect_stdout(sys.stderr):
            yield RayWorkers(ActorPool(min(count or room, room), gpus, say))
    finally:
        # Actors end with the process that began them.
        ray.shutdown()


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SageError(
            "Ray is not installed. `pip install 'sage-eval[ray]'` installs it, on every machine of "
            "the cluster."
        ) from error
    return ray


def _check_reached(address: str) -> None:
    """SageError where nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACHING).close()
    except (OSError, OverflowError) as error:
        raise _unreached(address, error) from error


def _connect(ray: Any, address: str, processes: int) -> None:
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        how |= {
            "num_cpus": processes, "include_dashboard": False, "object_store_memory": _MAIL,
        }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **how)
    except Exception as error:
        # Where a node takes long to start Ray raises no kind of its own.
        raise _unreached(address, error) from error


def _unreached(address: str, error: Exception) -> SageError:
    return SageError(
        f"No Ray cluster can be reached at {address} ({first_line(error)}). `ray start --head` "
        'starts one; "local" starts one for this sweep alone. Where a cluster asks for a token '
        "the same RAY_AUTH_TOKEN must be set here."
    )


def _room(resources: Mapping[str, float], gpus: float) -> int:
    """How many workers a cluster has room for."""
    cores = int(resources.get("CPU", 0))
    return min(cores, int(resources.get("GPU", 0) / gpus)) if gpus else cores
