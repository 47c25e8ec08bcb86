"""Published SAEs, from the Hugging Face cache or, where they are not in it yet, from the hub.

Those in one of our own formats are read by us. The rest sae-lens downloads and converts; what it
holds then is read like one of its folders. Nothing is downloaded but the files of the SAEs that
were asked for.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sage.errors import SageError
from sage.saes.formats import formats, saelens
from sage.saes.formats.format import Format
from sage.saes.registry import ReleasedSAE
from sage.saes.sae import SAE, Stated
from sage.saes.sae_files import Arrays, Fields

_LONGEST_REASON = 200


def fetch(released: ReleasedSAE) -> SAE:
    """The SAE, under the name and with the sparsity its release states.

    SageError where it is neither cached nor reachable.
    """
    format_of_loader = {form.LOADER: form for form in formats()}
    form = format_of_loader.get(released.loader)
    sae = _converted(released) if form is None else _in_our_format(released, form)
    stated = Stated(
        l0=released.l0 or sae.stated.l0,
        fvu=released.fvu or sae.stated.fvu,
        model=released.model,
        page=released.page,
    )
    return replace(
        sae,
        id=released.id,
        hook=released.hook,
        stated=stated,
        source=f"{released.repository}/{released.path}",
    )


def _in_our_format(released: ReleasedSAE, form: Format) -> SAE:
    files = [_file(released, f"{released.path}/{name}") for name in form.FILES]
    folder = files[0].parent
    if form.LOADER != saelens.LOADER:
        return form.load(folder)
    overrides = {
        "norm_scaling_factor": 1.0,
        **released.overrides,
        "hook_name": saelens.hook_name(released.hook),
    }
    return saelens.load(folder, overrides=overrides)


def _file(released: ReleasedSAE, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(released.repository, name))
    except _network_errors() as error:
        raise _unreachable(released, name, error) from error


def _converted(released: ReleasedSAE) -> SAE:
    """The SAE as sae-lens holds it once it has downloaded and converted it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import sae_lens

            theirs: Any = sae_lens.SAE.from_pretrained(
                released.release, released.sae_id, device="cpu", dtype="float32"
            )
    except _network_errors() as error:
        raise _unreachable(released, released.path, error) from error
    config = Fields(
        Path(released.repository) / released.path / saelens.CONFIG,
        {**theirs.cfg.to_dict(), "norm_scaling_factor": 1.0},
    )
    return saelens.read(
        config, Arrays(config.file, dict(theirs.state_dict())), name=released.sae_id
    )


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises, under the names that its versions have."""
    from huggingface_hub import errors

    names = ("HTTPError", "XetDownloadError")
    return (OSError, *(getattr(errors, name) for name in names if hasattr(errors, name)))


def _unreachable(released: ReleasedSAE, name: str, error: Exception) -> SageError:
    from huggingface_hub import constants

    reason = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
    return SageError(
        f"SAE '{released.id}' could not be had: {name} of "
        f"https://huggingface.co/{released.repository} is not in the cache "
        f"({constants.HF_HUB_CACHE}) and the hub gave none ({type(error).__name__}: {reason}). "
        "Download it where there is a network and copy the cache here (or set HF_HOME), or give "
        "the SAE's own folder instead of its name."
    )
