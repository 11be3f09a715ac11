"""What a process does that trains and evaluates the configurations of test_configurations.py."""

import os
import warnings
from pathlib import Path

from digits.core.errors import UserError
from digits.modeling.backend import pin_threads
from digits.stages import evaluate, train

STAGES = {"train": train, "evaluate": evaluate}


def start() -> None:
    """Prepare the process."""
    warnings.simplefilter("error")  # as pytest does in its own process
    warnings.simplefilter("ignore", DeprecationWarning)
    pin_threads(2, 2)  # once in a process; several, because with one TensorFlow survives more
    for stage in STAGES.values():
        stage.pin_threads = lambda *_: None  # type: ignore[attr-defined]


def run(variant: str, folder: Path) -> tuple[str, str]:
    """Return the stage that refused the configuration in a folder, and its message; or "" twice."""
    os.chdir(folder)
    for name, stage in STAGES.items():
        try:
            stage.run(variant)
        except UserError as error:
            return name, str(error)
    return "", ""
