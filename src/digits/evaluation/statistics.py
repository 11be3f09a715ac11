"""Means with their spread, intervals, and tests of hypotheses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

LEVEL = 0.05  # of significance
CONFIDENCE = 0.95  # of intervals

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Spread:
    """Values of several seeds, their mean and their sample standard deviation (None for a single value)."""

    mean: float
    std: float | None
    values: list[float]


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the sample standard deviation of values."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, [float(value) for value in values])


class Component(NamedTuple):
    """A part of a variance, and the degrees of freedom with which it is estimated."""

    variance: float
    degrees: float


def variance_between_seeds(rates: Sequence[float], flips: float, images: int) -> Component | None:
    """Return the part of the seeds in the variance of a mean error rate; None for a single seed.

    If all seeds make the same number of errors, which happens by chance where errors are few, it is the variance that
    the images give whose answers differ between the seeds if they flip independently.

    Args:
        rates: the error rate of each seed.
        flips: as `flips` returns it.
        images: the number of images.
    """
    if len(rates) < 2:  # noqa: PLR2004
        return None
    variance = flips / images if len(set(rates)) == 1 else float(np.var(rates, ddof=1)) / len(rates)
    return Component(variance, len(rates) - 1)


def flips(rates: Floats, seeds: int) -> float:
    """Return the mean variance of an image's error rate over seeds that comes from seeds that disagree; 0 for one seed.

    Args:
        rates: (images,), the share of the seeds that misclassify each image.
        seeds: the number of seeds.
    """
    return float((rates * (1 - rates)).mean()) / (seeds - 1) if seeds > 1 else 0.0


def variance_between_images(values: Floats, flips: float, design_effect: float, writers: Integers | None) -> Component:
    """Return the part of the images in the variance of a mean over images.

    Without `writers`, it is the variance of independent images, times a design effect (L. Kish, Survey sampling, 1965).
    With them, it is that of a mean over clusters of images by the same writer (E. Miller, Adding error bars to evals,
    arXiv 2411.00640, section 2.2).

    Args:
        values: (images,), e.g. differences of error rates.
        flips: the part of the variance of `values` that the seeds account for.
        design_effect: the factor for images by the same writers.
        writers: (images,), who wrote each image; None if unknown.
    """
    count = len(values)
    if writers is None:
        return Component(design_effect * max(float(values.var(ddof=1)) - flips, 0.0) / count, count - 1)
    _, cluster = np.unique(writers, return_inverse=True)
    sums = np.bincount(cluster, values - values.mean())
    variance = len(sums) / (len(sums) - 1) * float((sums**2).sum()) / count**2
    return Component(max(variance - flips / count, 0.0), len(sums) - 1)


def combine(components: Sequence[Component]) -> Component:
    """Return the sum of independent parts of a variance.

    Source: F. E. Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2
    (1946), 110-114.
    """
    variance = sum(part.variance for part in components)
    divisor = sum(part.variance**2 / part.degrees for part in components)
    return Component(variance, variance**2 / divisor if divisor else np.inf)


def quantile(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t distribution."""
    return float(t.ppf(probability, degrees))


def p_value(statistic: float, degrees: float) -> float:
    """Return the two-sided p-value of a t statistic."""
    return float(2 * t.sf(abs(statistic), degrees))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean over seeds; None for a single value, which shows no spread."""
    return _interval(values, 1 / len(values), None)


def prediction_interval(values: Sequence[float], proportion_of: int | None = None) -> tuple[float, float] | None:
    """Return the 95 % interval for the value of one more seed; None for a single value, which shows no spread.

    Source: G. J. Hahn and W. Q. Meeker, Statistical intervals, Wiley 1991, section 4.2.

    Args:
        values: one for each seed.
        proportion_of: the number of images, if the values are proportions of images and the new value is one of as many
            other images. The interval then has the binomial variance of both proportions, too.
    """
    return _interval(values, 1 + 1 / len(values), proportion_of)


def _interval(values: Sequence[float], factor: float, proportion_of: int | None) -> tuple[float, float] | None:
    if len(values) < 2:  # noqa: PLR2004
        return None
    mean = float(np.mean(values))
    parts = [Component(float(np.var(values, ddof=1)) * factor, len(values) - 1)]
    if proportion_of is not None:
        parts.append(Component(2 * mean * (1 - mean) / proportion_of, np.inf))
    total = combine(parts)
    half = quantile((1 + CONFIDENCE) / 2, total.degrees) * float(np.sqrt(total.variance))
    return mean - half, mean + half


def proportion_interval(share: float, variance: Component, images: int, design_effect: float) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion whose variance is not the binomial one, between 0 and 1.

    The number of images is replaced by the number of independent ones that would give the variance, and the normal
    quantile by that of t.

    Sources: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927),
    209-212; E. L. Korn and B. I. Graubard, Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data, Survey Methodology 24 (1998), 193-201.

    Args:
        share: the proportion.
        variance: of the proportion.
        images: the number of images.
        design_effect: divides the number of images if all of them, or no image, count.
    """
    binomial = share * (1 - share)
    effective = min(binomial / variance.variance, images) if binomial and variance.variance else images / design_effect
    z2 = quantile((1 + CONFIDENCE) / 2, variance.degrees) ** 2
    centre = (share + z2 / (2 * effective)) / (1 + z2 / effective)
    half = np.sqrt(z2 * (binomial / effective + z2 / (4 * effective**2))) / (1 + z2 / effective)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order, each to be compared with the level alone.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
