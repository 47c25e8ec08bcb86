"""Worker processes: they leave Ctrl-C to their parent, and end when it does.

A pool waits for its workers by default, whatever happens to its parent; and a parent that is killed
leaves them behind.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from typing import Any

# Seconds between two looks at whether the parent is still there.
LOOK_EVERY = 1.0
# Seconds that a process is given to end by itself.
PATIENCE = 2.0


@contextmanager
def worker_pool(
    processes: int, *, begin: Callable[..., None] | None = None, given: tuple[Any, ...] = ()
) -> Generator[ProcessPoolExecutor]:
    """A pool of fresh processes, each of which calls `begin(*given)` first.

    Where the block is left by an exception, Ctrl-C among them, its processes are ended at once.
    """
    before = set(active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(os.getpid(), begin, given),
    )
    try:
        with _interrupts_ignored():
            # The first job starts all processes, which ignore what is ignored when they start.
            pool.submit(os.getpid)
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end(set(active_children()) - before)
        raise
    pool.shutdown()


def _begin(parent: int, begin: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if begin is not None:
        begin(*given)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os._exit(1)


def _end(children: Iterable[BaseProcess]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.join(PATIENCE)
        if child.is_alive():
            child.kill()


@contextmanager
def interrupts_later() -> Generator[None]:
    """Ctrl-C inside takes effect at the end of the block, which is to be short: an exception in the
    middle of a library's own bookkeeping may leave it a lock that nobody gives back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _interrupts_ignored() -> Generator[None]:
    """Ctrl-C does nothing for a moment; only the main thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
