"""The paths of all files that the stages read and write, relative to the root of the repository.

Only the stages and the packages that work on a whole repository import this module; other functions take paths as
arguments.
"""

from dataclasses import dataclass
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
README = Path("README.md")


@dataclass(frozen=True)
class VariantFiles:
    """The files of one variant."""

    name: str

    @property
    def models(self) -> Path:
        return Path("models") / self.name

    @property
    def weights(self) -> Path:
        return self.models / "weights.npz"

    @property
    def model(self) -> Path:
        return self.models / "model.keras"

    @property
    def predictions(self) -> Path:
        return Path("data/predictions") / f"{self.name}.npz"

    @property
    def metrics(self) -> Path:
        return Path("metrics/variants") / f"{self.name}.json"

    @property
    def error_metrics(self) -> Path:
        return Path("metrics/variants") / f"{self.name}-errors.json"

    @property
    def plots(self) -> Path:
        return Path("plots/variants") / self.name

    @property
    def training(self) -> Path:
        return self.plots / "training.csv"

    @property
    def validation_errors(self) -> Path:
        return self.plots / "validation_errors.csv"

    @property
    def summary(self) -> Path:
        return self.plots / "summary.txt"

    @property
    def epochs(self) -> Path:
        return self.plots / "epochs.csv"

    @property
    def confusion(self) -> Path:
        return self.plots / "confusion.csv"

    @property
    def risk_coverage(self) -> Path:
        return self.plots / "risk_coverage.csv"

    @property
    def errors(self) -> Path:
        return self.plots / "errors.csv"

    @property
    def test_errors(self) -> Path:
        return self.plots / "test_errors.csv"

    @property
    def all_errors(self) -> Path:
        return Path("data/errors") / f"{self.name}.csv"

    @property
    def errors_figure(self) -> Path:
        return self.plots / "errors.png"

    @property
    def card(self) -> Path:
        return CARDS / f"{self.name}.md"

    @property
    def exports(self) -> Path:
        return EXPORTS / self.name
