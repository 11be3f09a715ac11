"""How the results of a revision are compared with others, from its params.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from digits.core import paths
from digits.core.config import parse_like_dvc
from digits.core.params import ReviewSettings, Writers
from digits.data.writers import read_writers
from digits.versioning.revisions import Revision


@dataclass(frozen=True)
class ComparisonSettings:
    """The settings of a comparison.

    Attributes:
        margin: In percentage points: smaller differences count as equal.
        table: QMNIST's table of writers; None for a fixed design effect.
    """

    margin: float
    table: Writers | None

    def writers(self, root: Path, images: int | None) -> NDArray[np.int64] | None:
        """Return who wrote each test image, (images,), or None if that is not known.

        Raises:
            UserError: the table cannot be read.
        """
        if self.table is None or images is None:
            return None
        return read_writers(self.table, root / paths.WRITERS, images)


def comparison_settings(side: Revision) -> ComparisonSettings:
    """Return the settings in the params.yaml of a revision, or the default ones if it has none."""
    return settings_in(side.mapping(paths.PARAMS, parse_like_dvc))


def settings_in(content: Mapping[str, Any]) -> ComparisonSettings:
    """Return the settings in the content of a params.yaml, or the default ones if it has none."""
    try:
        review = ReviewSettings.model_validate(content.get("review") or {})
        table = content["evaluate"].get("writers")
        return ComparisonSettings(review.margin, None if table is None else Writers.model_validate(table))
    except (AttributeError, KeyError, ValidationError):
        return ComparisonSettings(ReviewSettings().margin, None)
