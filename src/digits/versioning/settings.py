"""How the results of a revision are compared with others, from its params.yaml."""

from dataclasses import dataclass
from pathlib import Path

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
    """Return the settings in the params.yaml of a revision, or the default ones if it has none.

    A review takes those of its base, so that no branch decides by what margin it is judged.
    """
    default = ComparisonSettings(ReviewSettings().margin, None)
    try:
        content = parse_like_dvc(side.text(paths.PARAMS) or "")
        review = ReviewSettings.model_validate(content.get("review") or {})
        table = content["evaluate"].get("writers")
        return ComparisonSettings(review.margin, None if table is None else Writers.model_validate(table))
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError):
        return default
