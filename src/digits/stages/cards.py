"""Stage cards: a model card for each variant, written from the metrics of the other stages."""

from digits.cards import card
from digits.core import params, paths
from digits.core.artifacts import read_json, write_text
from digits.replication.protocols import describe


def run() -> None:
    """Write a model card for each listed variant."""
    parameters = params.load(paths.PARAMS)
    dataset, stress = read_json(paths.DATASET_METRICS), read_json(paths.STRESS_METRICS)
    for name in parameters.variants:
        files = paths.VariantFiles(name)
        text = card.render(
            name, describe(parameters, name), dataset, read_json(files.metrics), read_json(files.error_metrics), stress
        )
        write_text(files.card, text)
