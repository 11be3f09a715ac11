"""Stage stress: the variants on digits other than those of MNIST, beside the accuracy expected from validation."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from digits import plots
from digits.core import params, paths
from digits.core.artifacts import read_arrays, read_json, write_json
from digits.data.form import to_mnist_form
from digits.evaluation import comparison, stress
from digits.evaluation.comparison import Result, Verdict
from digits.evaluation.stress import SHIFTED, EvaluationSet
from digits.evaluation.validation import held_out
from digits.inference import ensemble

VALIDATION = "validation"
TEST = "test"
EXAMPLE = 1  # the index of the image in the figure


def run() -> None:
    """Test every variant on every evaluation set, and write the accuracies, the verdicts and the figure."""
    parameters = params.load(paths.PARAMS)
    sets = list(_evaluation_sets())
    results = {name: _results(name, sets) for name in parameters.variants}
    verdicts = {name: _verdicts(each, parameters.review.margin) for name, each in results.items()}
    shown = [each for each in sets if each.name != VALIDATION]
    write_json(
        paths.STRESS_METRICS,
        {
            each.name: {
                "title": each.title,
                "images": len(each.labels),
                "variants": {
                    variant: _row(results[variant][each.name], verdicts[variant].get(each.name))
                    for variant in parameters.variants
                },
            }
            for each in shown
        },
    )
    plots.evaluation_sets(
        {each.title: each.images[EXAMPLE] for each in shown},
        {each.title: {variant: _bar(results[variant], each.name) for variant in parameters.variants} for each in shown},
        "Accuracy on MNIST's test images, on scikit-learn's digits, and on corrupted test images;\n"
        "black line: the accuracy on validation images",
        paths.STRESS_FIGURE,
    )


def _bar(results: dict[str, Result], name: str) -> plots.Bar:
    accuracy = results[name].accuracy
    return plots.Bar(accuracy.mean, accuracy.std, results[VALIDATION].accuracy.mean if VALIDATION in results else None)


def _evaluation_sets() -> Iterator[EvaluationSet]:
    validation, test = read_arrays(paths.VALIDATION), read_arrays(paths.TEST)
    yield EvaluationSet(VALIDATION, "validation images", validation["images"], validation["labels"])
    yield EvaluationSet(TEST, "test images", test["images"], test["labels"])
    other = load_digits()  # 8x8 pixels, from 0 to 16
    images = np.stack([to_mnist_form(image / 16) for image in other.images])
    yield EvaluationSet(SHIFTED, "digits of scikit-learn", images, other.target.astype(np.uint8))
    yield from stress.corrupted(test["images"], test["labels"])


def _results(variant: str, sets: list[EvaluationSet]) -> dict[str, Result]:
    """Return the errors of a variant on each evaluation set; not on validation images that it was trained on."""
    files = paths.VariantFiles(variant)
    model = ensemble.load(variant, files.model, files.weights)
    results = {}
    for each in sets:
        if each.name != VALIDATION or held_out(read_json(files.metrics)):
            wrong = model.probabilities(each.images).argmax(axis=2) != each.labels
            results[each.name] = Result(wrong.sum(axis=1).tolist(), wrong.sum(axis=0))
    return results


def _verdicts(results: dict[str, Result], margin: float) -> dict[str, Verdict]:
    """Compare each evaluation set with the one whose accuracy is expected: validation, or test if none was held out."""
    expected = VALIDATION if VALIDATION in results else TEST
    sides = {name: (results[expected], result) for name, result in results.items() if name != expected}
    return comparison.compare(sides, margin=margin, same_images=False)


def _row(result: Result, verdict: Verdict | None) -> dict[str, Any]:
    return {
        "accuracy": asdict(result.accuracy),
        "expected": verdict and verdict.base.mean,
        "difference": verdict and verdict.difference,
        "interval": verdict and verdict.interval,
        "outcome": verdict and str(verdict.outcome),
    }
