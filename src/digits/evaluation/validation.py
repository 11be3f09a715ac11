"""What the results of a variant say about the validation images."""

from collections.abc import Mapping
from typing import Any


def held_out(metrics: Mapping[str, Any]) -> bool:
    """Return whether a variant was trained without the validation images, by metrics/variants/<variant>.json."""
    return metrics["validation"] is not None
