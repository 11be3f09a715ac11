"""The protocols that the reports may have followed, run as DVC experiments and set beside what they published."""

import subprocess
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import Field

from digits import curves
from digits.errors import UserError
from digits.params import Section, read
from digits.published import Number, value_of
from digits.repository import opened


class Experiment(Section):
    """A change of parameters, and the published numbers that it may account for."""

    says: str
    set: list[str]  # as after `dvc exp run -S`
    numbers: list[Number]


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
    """
    head = _git(root, "rev-parse", "HEAD").strip()
    known = _known(root, head)
    for name, experiment in experiments.experiments.items():
        for seed in experiments.seeds:
            if name_of(name, seed) not in known:
                settings = [word for setting in [*experiment.set, f"train.seed={seed}"] for word in ("-S", setting)]
                _dvc(root, "exp", "run", "--queue", "--name", name_of(name, seed), *settings)
    _dvc(root, "exp", "run", "--run-all")
    return head


def results(root: Path, experiments: Experiments, commit: str) -> dict[str, Any]:
    """Return, for each experiment, the published numbers beside mean and standard deviation over the seeds.

    Args:
        root: the folder of dvc.yaml.
        experiments: what was run.
        commit: what it was run on.

    Raises:
        UserError: an experiment has not been run on that commit.
    """
    known = _known(root, commit)
    report: dict[str, Any] = {}
    for name, experiment in experiments.experiments.items():
        runs = []
        for seed in experiments.seeds:
            revision = known.get(name_of(name, seed))
            if revision is None:
                raise UserError(
                    f"experiment {name_of(name, seed)} has not been run on {commit}: type `make experiments`"
                )
            variants = {number.curve.variant for number in experiment.numbers if number.curve}
            runs.append({key: curve for variant in variants for key, curve in _curves(root, revision, variant).items()})
        report[name] = {
            "says": experiment.says,
            "set": experiment.set,
            "seeds": experiments.seeds,
            "numbers": [_number(number, runs) for number in experiment.numbers],
        }
    return report


def _number(number: Number, runs: list[dict[tuple[str, str], curves.Curve]]) -> dict[str, Any]:
    if number.curve is None:
        raise UserError(f"experiments.yaml: '{number.quantity}' names no point of a curve")
    measured = [value_of(number.curve, run) for run in runs]
    values = [value for value in measured if value is not None]
    if len(values) != len(runs):
        raise UserError(f"experiments.yaml: '{number.quantity}' is at no epoch of the grid")
    average = mean(values)
    return {
        "report": number.report,
        "quantity": number.quantity,
        "published": number.published,
        "mean": average,
        "standard_deviation": stdev(values) if len(values) > 1 else None,
        "values": values,
        "tolerance": number.tolerance,
        "reproduced": abs(average - number.published) <= number.tolerance + 1e-9,
    }


def _known(root: Path, commit: str) -> dict[str, str]:
    """Return the commits of the experiments that were run on a commit, by name."""
    with opened(root) as repo:
        listed = repo.experiments.ls(commit)
    return {name: commit for experiments in listed.values() for name, commit in experiments if name}


def _curves(root: Path, revision: str, variant: str) -> dict[tuple[str, str], curves.Curve]:
    texts = (_git(root, "show", f"{revision}:plots/variants/{variant}/{name}.csv") for name in ("training", "epochs"))
    return {(variant, split): curve for split, curve in curves.of_variant(*texts).items()}


def _git(root: Path, *words: str) -> str:
    result = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607
    if result.returncode:
        raise UserError(f"`git {' '.join(words)}`: {result.stderr.strip()}")
    return result.stdout


def _dvc(root: Path, *words: str) -> None:
    result = subprocess.run(["dvc", *words], cwd=root, check=False)  # noqa: S607
    if result.returncode:
        raise UserError(f"`dvc {' '.join(words)}` exited with {result.returncode}; its own message stands above")
