"""Identity: gives every activation back; the one of approximation, and a control of nothing.

Method, section 6.
"""

from __future__ import annotations

from sage.dictionaries.controls.setting import Setting
from sage.dictionaries.controls.without_latents import IDENTITY, WithoutLatents, identity

NAMES = (IDENTITY,)
# It is what approximation measures against: a line, never the best control.
RIVAL: frozenset[str] = frozenset()


def make(name: str, setting: Setting) -> WithoutLatents:
    """The identity at every node."""
    del name
    return identity(setting.judged.anatomy)


def depends(name: str, setting: Setting) -> tuple[object, ...]:
    """On nothing."""
    del name, setting
    return ()
