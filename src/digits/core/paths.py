"""The paths of all files that the stages read and write, relative to the root of the repository.

Only the stages and the packages that work on a whole repository import this module; other functions take paths as
arguments.
"""

from pathlib import Path

PARAMS = Path("params.yaml")
SCHEMA = Path("params.schema.json")

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
TRAIN = PROCESSED / "train.npz"
VALIDATION = PROCESSED / "validation.npz"
TEST = PROCESSED / "test.npz"
WRITERS = Path("data/writers")
NEIGHBORS = Path("data/neighbors.npz")
PUBLISHED = Path("data/published.yaml")
DISPUTED = Path("data/disputed.yaml")
EXPERIMENTS = Path("experiments.yaml")

DATASET_METRICS = Path("metrics/dataset.json")
DATASET_PLOTS = Path("plots/dataset")

SUMMARY = Path("metrics/summary.json")
PUBLISHED_METRICS = Path("metrics/published.json")
EXPERIMENT_METRICS = Path("metrics/experiments.json")
CURVES = Path("plots/curves.csv")
COMPARE_PLOTS = Path("plots/compare")
STRESS_METRICS = Path("metrics/stress.json")
STRESS_FIGURE = Path("plots/stress.png")

CARDS = Path("cards")
EXPORTS = Path("exports")
PAGE = Path("page/index.html")
REVIEW = Path("review")


class VariantFiles:
    """The files of one variant."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.models = Path("models") / name
        self.weights = self.models / "weights.npz"
        self.model = self.models / "model.keras"
        self.predictions = Path("data/predictions") / f"{name}.npz"
        self.metrics = Path("metrics/variants") / f"{name}.json"
        self.error_metrics = Path("metrics/variants") / f"{name}-errors.json"
        self.plots = Path("plots/variants") / name
        self.training = self.plots / "training.csv"
        self.validation_errors = self.plots / "validation_errors.csv"
        self.summary = self.plots / "summary.txt"
        self.epochs = self.plots / "epochs.csv"
        self.confusion = self.plots / "confusion.csv"
        self.risk_coverage = self.plots / "risk_coverage.csv"
        self.errors = self.plots / "errors.csv"
        self.test_errors = self.plots / "test_errors.csv"
        self.all_errors = Path("data/errors") / f"{name}.csv"
        self.errors_figure = self.plots / "errors.png"
        self.card = CARDS / f"{name}.md"
        self.exports = EXPORTS / name
