"""SAE architectures: one file each, found by listing this folder; adding one touches no other file.

A file defines its encoder, a class whose `name` is the file's, and `architecture`, an
`Architecture`: how it is trained and what other libraries call it (method, section 9). A file whose
name begins with an underscore is part of another one.
"""

from __future__ import annotations

from pkgutil import iter_modules


def architecture_names() -> tuple[str, ...]:
    """The names of all architectures; none of them is imported for it."""
    files = (module.name for module in iter_modules(__path__))
    names = (name for name in files if name != "architecture" and not name.startswith("_"))
    return tuple(sorted(names))
