"""What goes wrong around a command, not in it: disks, rights, memory; said in a sentence."""

from __future__ import annotations

import errno

from sage.files import first_line, is_out_of_memory

_REMEDIES = {
    errno.ENOSPC: "Make room and give the same command again: what is finished is kept.",
    errno.EDQUOT: "Make room and give the same command again: what is finished is kept.",
    errno.EROFS: "Give a place that can be written.",
    errno.EACCES: "Give another place, or change its rights.",
    errno.EPERM: "Give another place, or change its rights.",
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.ENOTDIR: "Something above it is a file: give another place.",
    errno.EEXIST: "Something above it is a file: give another place.",
    errno.EISDIR: "It is a folder: give a file.",
    errno.EMFILE: "Raise the number of files that may be open, or give fewer --workers.",
}


def told_failure(error: BaseException) -> str | None:
    """What the machine refused, and what to do; None for an error that is not the machine's."""
    if is_out_of_memory(error):
        return (
            f"There is not enough memory ({first_line(error)}). Free some, or give fewer prompts, "
            "fewer workers or a smaller model."
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        said = f"{where}{error.strerror or type(error).__name__}."
        remedy = _REMEDIES.get(error.errno)
        return f"{said} {remedy}" if remedy else said
    return None
