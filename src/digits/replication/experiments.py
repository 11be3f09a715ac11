"""The protocols that the reports may have followed, run as DVC experiments and compared with what they published."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from digits.core import params, paths
from digits.core.artifacts import write_json
from digits.core.config import Section, read
from digits.core.errors import UserError
from digits.evaluation.curves import learning_curves
from digits.evaluation.validation import held_out
from digits.replication.published import (
    NOT_APPLICABLE,
    Curves,
    Epoch,
    ExperimentNumber,
    ExperimentResult,
    ExperimentResults,
    Number,
    Point,
    Published,
    measure,
    values_of,
)
from digits.versioning.git import git
from digits.versioning.repository import open_repository
from digits.versioning.revisions import Revision


class Experiment(Section):
    """A change of parameters that may account for the published numbers of one variant."""

    description: str
    variant: str
    set: list[str] = Field(default_factory=list)  # as for `dvc exp run -S`
    quantities: list[str] | None = None  # those compared; None: all that are on a curve of the variant
    epochs: dict[Epoch, int] = Field(default_factory=dict)  # from an epoch in data/published.yaml to the experiment's

    @property
    def settings(self) -> list[str]:
        """Every setting for `dvc exp run -S`."""
        return [f"variants=[{self.variant}]", *self.set]


class Experiments(Section):
    """The content of experiments.yaml."""

    experiments: dict[str, Experiment]


class Target(NamedTuple):
    """A published number that an experiment is compared with.

    Attributes:
        point: Where the experiment's curves have the number.
        epoch: The epoch of `point` if it is not that of data/published.yaml, else None.
    """

    number: Number
    point: Point
    epoch: int | None


def load(path: Path) -> Experiments:
    """Read and check experiments.yaml; raise UserError if it is invalid."""
    return read(path, Experiments)


def run(root: Path, experiments: Experiments, published: Published) -> str:
    """Run each experiment in a copy of the repository, unless it has been run on this commit.

    Args:
        root: the folder of dvc.yaml.
        experiments: what to run.
        published: the numbers to compare with.

    Returns:
        The commit.

    Raises:
        UserError: the data set is not that of the published numbers, or DVC failed; it has printed why.
        KeyboardInterrupt: the user pressed Ctrl-C. Finished experiments are kept; the next call runs the others.
    """
    head = git(root, "rev-parse", "HEAD").strip()
    if not published.applies_to(params.load(root / paths.PARAMS).download.files.by_name()):
        raise UserError(f"{NOT_APPLICABLE}: there is nothing to compare the experiments with")
    finished = _finished(root, head)
    for name, experiment in experiments.experiments.items():
        if name not in finished:
            settings = [word for setting in experiment.settings for word in ("-S", setting)]
            _dvc(root, "exp", "run", "--queue", "--name", name, *settings)
    try:
        _dvc(root, "exp", "run", "--run-all")
    except KeyboardInterrupt:
        _dvc(root, "queue", "stop", "--kill")  # the workers are separate processes, which would go on
        raise
    return head


def results(root: Path, experiments: Experiments, published: Published, commit: str) -> dict[str, ExperimentResult]:
    """Return, by experiment, the published numbers beside those measured.

    Args:
        root: the folder of dvc.yaml.
        experiments: the experiments, which `run` has run.
        published: the numbers to compare with.
        commit: the commit on which they were run.

    Raises:
        UserError: an experiment has not been run on the commit, or experiments.yaml does not fit data/published.yaml.
    """
    finished = _finished(root, commit)
    compared = {}
    for name, experiment in experiments.experiments.items():
        wanted = targets(name, experiment, published)
        revision = finished.get(name)
        if revision is None:
            raise UserError(f"experiment {name} has not been run on {commit}: type `make experiments`")
        curves = _curves(root, revision, experiment.variant)
        compared[name] = ExperimentResult(
            description=experiment.description,
            set=experiment.settings,
            seeds=next(iter(curves.values()))["seed"].unique().tolist() if curves else [],
            numbers=[summarize(name, target, curves) for target in wanted],
        )
    return compared


def targets(name: str, experiment: Experiment, published: Published) -> list[Target]:
    """Return the published numbers that an experiment is compared with, in the order of data/published.yaml.

    Raises:
        UserError: the experiment names a quantity or an epoch that no number on a curve of its variant has.
    """
    found = [
        (number, number.curve)
        for number in published.numbers
        if number.curve and number.curve.variant == experiment.variant
    ]
    known = {number.quantity for number, _ in found}
    for quantity in experiment.quantities or ():
        if quantity not in known:
            raise UserError(
                f"experiments.yaml: {name}: data/published.yaml has no number '{quantity}' "
                f"on a curve of {experiment.variant}"
            )
    chosen = [each for each in found if experiment.quantities is None or each[0].quantity in experiment.quantities]
    for epoch in experiment.epochs:
        if epoch not in {point.epoch for _, point in chosen}:
            raise UserError(f"experiments.yaml: {name}: no number that it is compared with is at epoch '{epoch}'")
    moved = [(number, point, experiment.epochs.get(point.epoch)) for number, point in chosen]
    return [
        Target(number, point if epoch is None else point.model_copy(update={"epoch": epoch}), epoch)
        for number, point, epoch in moved
    ]


def summarize(name: str, target: Target, curves: Curves) -> ExperimentNumber:
    """Return a published number beside that of an experiment.

    Raises:
        UserError: the experiment does not have the number.
    """
    number = target.number
    values = values_of(target.point, curves)
    if not values:
        raise UserError(
            f"experiments.yaml: {name} does not measure '{number.quantity}': add its epoch to train.checkpoints"
        )
    return ExperimentNumber(number.report, number.quantity, target.epoch, number.published, measure(number, values))


def write(path: Path, compared: ExperimentResults) -> None:
    """Write the results of experiments as JSON, which `published.read_experiments` reads."""
    write_json(path, {name: asdict(result) for name, result in compared.items()})


def _finished(root: Path, commit: str) -> dict[str, str]:
    """Return the commits of the experiments that were run on a commit, by name."""
    with open_repository(root) as repo:
        listed = repo.experiments.ls(commit)
    return {name: revision for experiments in listed.values() for name, revision in experiments if name}


def _curves(root: Path, revision: str, variant: str) -> Curves:
    files = paths.VariantFiles(variant)
    commit = Revision(root, revision, revision)
    training, epochs, metrics = (commit.text(path) for path in (files.training, files.epochs, files.metrics))
    if training is None or epochs is None or metrics is None:
        return {}
    found = learning_curves(training, epochs, held_out=held_out(json.loads(metrics)))
    return {(variant, split): curve for split, curve in found.items()}


def _dvc(root: Path, *words: str) -> None:
    result = subprocess.run(["dvc", *words], cwd=root, check=False)  # noqa: S607
    if result.returncode:
        raise UserError(f"`dvc {' '.join(words)}` exited with status {result.returncode}: see its message above")
