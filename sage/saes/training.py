"""What is trained: the settings, and the model and hook whose activations the SAE will read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sage.nodes import Node
from sage.saes.architectures.architecture import trainer_settings
from sage.saes.training_settings import TrainingSettings


@dataclass(frozen=True)
class Training:
    """Everything that decides what an SAE becomes, apart from the activations.

    `hook` is the node of the model that it reads; `reads_bos`: position 0 held a BOS token.
    SageError where its architecture cannot be trained with these settings.
    """

    settings: TrainingSettings
    model: str
    hook: Node
    d_model: int
    reads_bos: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        trainer_settings(self.settings)

    def fields(self) -> dict[str, Any]:
        """All of it as JSON has it, the settings among the rest."""
        rest = {name: value for name, value in vars(self).items() if name != "settings"}
        fields = {**asdict(self.settings), **rest, "hook": str(self.hook)}
        return json.loads(json.dumps(fields))
