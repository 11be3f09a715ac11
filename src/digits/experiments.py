"""The protocols that the reports may have followed, run as DVC experiments and set beside what they published."""

import subprocess
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import Field

from digits import curves, paths
from digits.errors import UserError
from digits.params import Section, read
from digits.published import Epoch, Number, Published, ReportName, value_of
from digits.repository import opened
from digits.revisions import Revision, resolve


class Reference(Section):
    """A number of data/published.yaml, and the epoch at which an experiment has it where that is another one."""

    report: ReportName
    quantity: str
    epoch: Epoch | None = None


class Experiment(Section):
    """A change of parameters, and the published numbers that it may account for."""

    says: str
    set: list[str]  # as after `dvc exp run -S`
    numbers: list[Reference]


class Experiments(Section):
    """The whole of experiments.yaml."""

    seeds: Annotated[list[int], Field(min_length=1)]
    experiments: dict[str, Experiment]


def load(path: Path) -> Experiments:
    """Read and check experiments.yaml; raise UserError for what is not allowed."""
    return read(path, Experiments)


def name_of(experiment: str, seed: int) -> str:
    """Return the name of the DVC experiment that runs an experiment with a seed."""
    return f"{experiment}-{seed}"


def run(root: Path, experiments: Experiments) -> str:
    """Queue each experiment with each seed that this commit has not run, and run the queue in copies of the repository.

    Args:
        root: the folder of dvc.yaml.
        experiments: what to run.

    Returns:
        The commit that they were run on.

    Raises:
        UserError: DVC could not run one; what it printed stands above.
        KeyboardInterrupt: the user has had enough; what has ended is kept, and the next call runs the rest.
    """
    head = resolve(root, "HEAD").commit or ""
    known = _known(root, head)
    for name, experiment in experiments.experiments.items():
        for seed in experiments.seeds:
            if name_of(name, seed) not in known:
                settings = [word for setting in [*experiment.set, f"train.seed={seed}"] for word in ("-S", setting)]
                _dvc(root, "exp", "run", "--queue", "--name", name_of(name, seed), *settings)
    try:
        _dvc(root, "exp", "run", "--run-all")
    except KeyboardInterrupt:
        _dvc(root, "queue", "stop", "--kill")  # DVC's workers are processes of their own, which would run on
        raise
    return head


def results(root: Path, experiments: Experiments, published: Published, commit: str) -> dict[str, Any]:
    """Return, for each experiment, the published numbers beside mean and standard deviation over the seeds.

    Args:
        root: the folder of dvc.yaml.
        experiments: what was run.
        published: the numbers that it refers to.
        commit: what it was run on.

    Raises:
        UserError: an experiment has not been run on that commit, or refers to no published number.
    """
    known = _known(root, commit)
    report: dict[str, Any] = {}
    for name, experiment in experiments.experiments.items():
        numbers = [(reference, referred(reference, published)) for reference in experiment.numbers]
        runs = []
        for seed in experiments.seeds:
            revision = known.get(name_of(name, seed))
            if revision is None:
                raise UserError(
                    f"experiment {name_of(name, seed)} has not been run on {commit}: type `make experiments`"
                )
            variants = {number.curve.variant for _, number in numbers if number.curve}
            runs.append({key: curve for variant in variants for key, curve in _curves(root, revision, variant).items()})
        report[name] = {
            "says": experiment.says,
            "set": experiment.set,
            "seeds": experiments.seeds,
            "numbers": [_number(number, reference.epoch, runs) for reference, number in numbers],
        }
    return report


def referred(reference: Reference, published: Published) -> Number:
    """Return the published number that is referred to, at the epoch of the reference.

    Raises:
        UserError: there is none, or it is of no curve.
    """
    for number in published.numbers:
        if (number.report, number.quantity) == (reference.report, reference.quantity) and number.curve:
            if reference.epoch is None:
                return number
            curve = number.curve.model_copy(update={"epoch": reference.epoch})
            return number.model_copy(update={"curve": curve})
    raise UserError(f"experiments.yaml: report {reference.report} has no '{reference.quantity}' of a curve")


def _number(number: Number, epoch: Epoch | None, runs: list[dict[tuple[str, str], curves.Curve]]) -> dict[str, Any]:
    measured = [value_of(number.curve, run) for run in runs if number.curve]
    values = [value for value in measured if value is not None]
    if len(values) != len(runs):
        raise UserError(f"experiments.yaml: '{number.quantity}' is at no epoch of the grid")
    average = mean(values)
    return {
        "report": number.report,
        "quantity": number.quantity,
        "epoch": epoch,
        "published": number.published,
        "mean": average,
        "standard_deviation": stdev(values) if len(values) > 1 else None,
        "values": values,
        "tolerance": number.tolerance,
        "reproduced": number.is_reproduced_by(average),
    }


def _known(root: Path, commit: str) -> dict[str, str]:
    """Return the commits of the experiments that were run on a commit, by name."""
    with opened(root) as repo:
        listed = repo.experiments.ls(commit)
    return {name: commit for experiments in listed.values() for name, commit in experiments if name}


def _curves(root: Path, revision: str, variant: str) -> dict[tuple[str, str], curves.Curve]:
    files = paths.Variant(variant)
    texts = [Revision(root, revision, revision).text(file) or "" for file in (files.training, files.epochs)]
    return {(variant, split): curve for split, curve in curves.of_variant(*texts).items()}


def _dvc(root: Path, *words: str) -> None:
    result = subprocess.run(["dvc", *words], cwd=root, check=False)  # noqa: S607
    if result.returncode:
        raise UserError(f"`dvc {' '.join(words)}` exited with {result.returncode}; its own message stands above")
