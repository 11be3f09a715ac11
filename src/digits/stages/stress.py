"""Stage stress: the variants on digits other than those of MNIST, beside what their validation accuracy promises."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from digits import plots
from digits.core import params, paths
from digits.core.artifacts import read_arrays, read_json, write_json
from digits.data.form import to_mnist_form
from digits.evaluation import comparison, stress
from digits.evaluation.comparison import Result, Verdict
from digits.evaluation.stress import Population
from digits.inference import ensemble
from digits.inference.ensemble import Ensemble

VALIDATION = "validation"
TEST = "test"
EXAMPLE = 1  # the index of the image in the figure


def run() -> None:
    """Test every variant on every population, and write the accuracies, the verdicts and the figure."""
    parameters = params.load(paths.PARAMS)
    populations = {population.name: population for population in _populations()}
    results = {name: _results(name, populations) for name in parameters.variants}
    verdicts = {name: _verdicts(each, parameters.review.margin) for name, each in results.items()}
    named = {name: each for name, each in populations.items() if name != VALIDATION}
    write_json(
        paths.STRESS_METRICS,
        {
            name: {
                "title": population.title,
                "images": len(population.labels),
                "variants": {
                    variant: _row(results[variant][name], verdicts[variant].get(name))
                    for variant in parameters.variants
                },
            }
            for name, population in named.items()
        },
    )
    plots.populations(
        {each.title: each.images[EXAMPLE] for each in named.values()},
        {
            each.title: {variant: _bar(results[variant], name) for variant in parameters.variants}
            for name, each in named.items()
        },
        "Accuracy on MNIST's test images, on digits by other people, and on test images with a fault;\n"
        "black line: the accuracy on validation images",
        paths.STRESS_FIGURE,
    )


def _bar(results: dict[str, Result], population: str) -> plots.Bar:
    accuracy = results[population].accuracy
    return plots.Bar(accuracy.mean, accuracy.std, results[VALIDATION].accuracy.mean if VALIDATION in results else None)


def _populations() -> Iterator[Population]:
    validation, test = read_arrays(paths.VALIDATION), read_arrays(paths.TEST)
    yield Population(VALIDATION, "validation images", validation["images"], validation["labels"])
    yield Population(TEST, "test images", test["images"], test["labels"])
    other = load_digits()  # 8x8 pixels, from 0 to 16
    images = np.stack([to_mnist_form(image / 16) for image in other.images])
    yield Population("scikit-learn", "digits of scikit-learn", images, other.target.astype(np.uint8))
    yield from stress.faults(test["images"], test["labels"])


def _results(variant: str, populations: dict[str, Population]) -> dict[str, Result]:
    """Return the errors of a variant on each population; not on validation images that it was trained on."""
    files = paths.VariantFiles(variant)
    model = ensemble.load(variant, files.model, files.weights)
    held_out = read_json(files.metrics)["validation"] is not None
    # With one thread each, a sum does not depend on the number of cores.
    with threadpool_limits(1), ThreadPoolExecutor() as pool:
        return {
            name: _result(model, population, pool)
            for name, population in populations.items()
            if held_out or name != VALIDATION
        }


def _result(model: Ensemble, population: Population, pool: ThreadPoolExecutor) -> Result:
    probabilities = pool.map(partial(ensemble.forward, images=population.images), model.networks)
    wrong = np.stack([each.argmax(axis=1) != population.labels for each in probabilities])
    return Result(wrong.sum(axis=1).tolist(), wrong.sum(axis=0))


def _verdicts(results: dict[str, Result], margin: float) -> dict[str, Verdict]:
    """Compare each population with the validation images, or with the test images if these promise the accuracy."""
    promised = VALIDATION if VALIDATION in results else TEST
    sides = {name: (results[promised], result) for name, result in results.items() if name != promised}
    return comparison.compare(sides, margin=margin, same_images=False)


def _row(result: Result, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "accuracy": asdict(result.accuracy),
        "promised": verdict and verdict.base.mean,
        "difference": verdict and verdict.difference,
        "interval": verdict and verdict.interval,
        "outcome": verdict and str(verdict.outcome),
    }
