"""Something that runs beside a test, begun in the middle of what the test does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable


class Beside(logging.Handler):
    """A thread, for what another process would do. Once begun it is left to run until it ends, or
    says that it waits for somebody else: no order of the two is left to chance."""

    def __init__(self, run: Callable[[], object]) -> None:
        super().__init__()
        self.made: object = None
        self._run = run
        self._stands = threading.Event()
        self._thread = threading.Thread(target=self._begin)

    def start(self) -> None:
        """Begin it, and return when it waits or has ended."""
        logging.getLogger("sage").addHandler(self)
        self._thread.start()
        self._stands.wait()

    def end(self) -> object:
        """What came of it: what it returned, or what it raised."""
        self._thread.join()
        logging.getLogger("sage").removeHandler(self)
        return self.made

    def emit(self, record: logging.LogRecord) -> None:
        if "waiting" in record.getMessage():
            self._stands.set()

    def _begin(self) -> None:
        try:
            self.made = self._run()
        except Exception as error:
            self.made = error
        finally:
            self._stands.set()
