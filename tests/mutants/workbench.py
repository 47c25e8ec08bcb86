"""A copy of the project in which one file at a time is changed and tested.

Tests run in forks of one process that has loaded the heavy libraries and nothing of sage, so that a
change costs its tests and not the seconds in which torch is imported.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_HEAVY = ("torch", "scipy.stats", "pandas", "transformers", "transformer_lens")
_NEWER = itertools.count(int(time.time()) + 10_000)  # seconds: bytecode of a change is never reused
_EARLY = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
_OPTIONS = ("-q", "-x", "--no-header", "-p", "no:cacheprovider", "-o", "timeout=600", "-W", _EARLY)


class Workbench:
    """`root` is a copy of the files git knows or would add; sage is imported from there."""

    def __init__(self, project: Path, root: Path) -> None:
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=project, capture_output=True, check=True).stdout
        for name in filter(None, names.decode().split("\0")):
            if (project / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, root / name)
        self.root = root
        self.log = root / "tests.log"
        sys.path[:] = [str(root), *(path for path in sys.path if Path(path or ".") != project)]
        for library in _HEAVY:
            import_module(library)
        assert "sage" not in sys.modules, "sage must be imported anew for each change"

    def passes(self, tests: Sequence[str], *, seconds: float, keep: bool = False) -> bool:
        """Whether these tests, in this order, pass in time; `keep` writes bytecode for later."""
        child = os.fork()
        if not child:
            self._test(tests, keep=keep)
        end, status = time.monotonic() + seconds, None
        try:
            while status is None and time.monotonic() < end:
                time.sleep(0.05)
                ended, code = os.waitpid(child, os.WNOHANG)
                status = code if ended else None
        finally:
            if status is None:  # too slow, or this run is interrupted
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return status == 0

    def change(self, path: str, source: bytes) -> None:
        """Writes a source in place of a file's own."""
        (self.root / path).write_bytes(source)
        newer = next(_NEWER)
        os.utime(self.root / path, (newer, newer))

    def _test(self, tests: Sequence[str], *, keep: bool) -> NoReturn:
        code = 1
        os.setpgid(0, 0)
        try:
            os.chdir(self.root)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.dont_write_bytecode = not keep
            os.environ["PYTHONDONTWRITEBYTECODE"] = "" if keep else "1"
            pytest = import_module("pytest")
            code = int(pytest.main([*_OPTIONS, *tests]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
