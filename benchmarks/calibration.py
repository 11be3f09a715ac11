"""Measure how often the verdict of a review is right, and write calibration.json beside this file.

    make calibration                                         # train the pools that are missing, then measure
    python benchmarks/calibration.py --writers TABLE SHA256  # with QMNIST's table, as in evaluate.writers

A pool holds the test errors of many seeds of a variant. Training all pools takes half an hour on two cores, and
measuring a few minutes; calibration/ keeps the errors of all seeds. A draw takes five seeds from a pool for each side,
so that the truth about the two sides is known from the whole pools. Draws from one pool share its seeds: the intervals
of the shares account for the number of draws, not for the size of the pools.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import BENCHMARKS, PARAMS, ROOT, load, provenance
from numpy.typing import NDArray
from scipy.stats import binomtest

from digits.core import params, paths
from digits.core.artifacts import atomic_write, read_arrays, write_json
from digits.core.errors import UserError
from digits.data.writers import read_writers
from digits.evaluation import comparison, statistics
from digits.evaluation.comparison import Outcome, Result, Verdict

RESULTS = BENCHMARKS / "calibration.json"
DRAWS = 1000
SEEDS = 5  # of each side
MORE_SEEDS = (5, 10, 15, 20)
PAIRS = (("softmax", "mlp64"), ("mlp128", "mlp64"), ("mlp64", "cnn"), ("mlp64", "mlp64-80"), ("mlp64", "mlp64-96"))
# Stands for a processor without AVX-512. It changes no byte of softmax and mlp64, whose loops XLA compiles.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
DENSE, CNN = range(40), range(20)
SIZES = {"softmax": DENSE, "mlp64": DENSE, "mlp128": DENSE, "cnn": CNN}
UNITS = (68, 72, 80, 96)

DECIDED = (Outcome.BETTER, Outcome.WORSE)

Errors = NDArray[np.bool_]  # (seeds, images)
Sides = dict[str, tuple[Errors, Errors]]  # by variant


class SeedPool(NamedTuple):
    """Runs of one variant that differ in nothing but the seed."""

    variant: str
    seeds: range
    units: int | None = None  # of the hidden layer; None: as in params.yaml
    environment: Mapping[str, str] = {}  # of the process that trains


POOLS = {
    **{name: SeedPool(name, seeds) for name, seeds in SIZES.items()},
    **{f"mlp64-{units}": SeedPool("mlp64", DENSE, units) for units in UNITS},
    **{f"{name}-avx2": SeedPool(name, seeds, environment=AVX2) for name, seeds in SIZES.items()},
}


def pool_file(name: str) -> Path:
    return BENCHMARKS / f"calibration/{name}.npz"


def read(name: str) -> Errors:
    """Return whether each seed of a pool misclassifies each test image, bool (seeds, images)."""
    arrays = read_arrays(pool_file(name))
    return np.unpackbits(arrays["wrong"], axis=1, count=int(arrays["images"])).astype(bool)


def train(name: str) -> None:
    """Train a pool in this process, and write its file."""
    # TensorFlow, which the measurements do not need
    from digits.modeling import networks, training  # noqa: PLC0415
    from digits.modeling.backend import available_workers, pin_threads  # noqa: PLC0415

    pool, section = POOLS[name], PARAMS.train
    settings = PARAMS.models[pool.variant]
    if pool.units is not None:
        settings = settings.model_copy(update={"units": [pool.units]})
    workers = available_workers(section.threads)
    pin_threads(section.threads, workers)
    data = load("train") if settings.validation else load("train", "validation")
    images, labels = load("test")
    model = networks.build(settings, 0)
    predict = networks.compile_logits(model)
    wrong = np.zeros((len(pool.seeds), len(labels)), bool)
    for result in training.train(settings, data, None, epochs=section.epochs, seeds=pool.seeds, workers=workers):
        if result.epoch == section.epochs:
            networks.set_weights(model, result.weights)
            wrong[pool.seeds.index(result.seed)] = predict(images).argmax(axis=1) != labels
    with atomic_write(pool_file(name)) as temporary:
        np.savez_compressed(temporary, wrong=np.packbits(wrong, axis=1), images=np.int64(wrong.shape[1]))


def share(events: Sequence[bool]) -> dict[str, Any]:
    """Return the share of draws with an event, with the 95 % interval of Clopper and Pearson."""
    interval = binomtest(int(np.sum(events)), len(events)).proportion_ci()
    return {"share": float(np.mean(events)), "interval": [float(interval.low), float(interval.high)]}


class Draws:
    """Draws of two sides from pools, always the same for the same pools."""

    def __init__(self, pools: Mapping[str, Errors], writers: NDArray[np.int64] | None, draws: int = DRAWS) -> None:
        self.pools, self.writers, self.draws = pools, writers, draws
        self.random = np.random.default_rng(0)

    def results(self) -> dict[str, Any]:
        """Measure everything."""
        found = {
            "draws": self.draws,
            "seeds": SEEDS,
            "pools": {
                name: {"seeds": len(errors), "errors": float(errors.mean()), "std": float(errors.std(ddof=1))}
                for name, errors in ((name, pool.sum(axis=1)) for name, pool in self.pools.items())
            },
            "false_verdicts": self.false_verdicts(),
            "power": {str(units): self.power(f"mlp64-{units}") for units in UNITS},
            "coverage": {f"{base} and {head}": self.coverage(base, head) for base, head in PAIRS},
        }
        return found if self.writers is None else found | {"design_effects": self.design_effects(self.writers)}

    def false_verdicts(self) -> dict[str, Any]:
        """Compare seeds of the same code, which no verdict should tell apart."""

        def sides(count: int, head: str = "", *, same_seeds: bool = False) -> Sides:
            """Return `count` seeds for each side; `head` is the end of the name of the head's pools."""
            drawn = {}
            for name in SIZES:
                order = self.random.permutation(len(self.pools[name]))
                others = order[:count] if same_seeds else order[count : 2 * count]
                drawn[name] = self.pools[name][order[:count]], self.pools[name + head][others]
            return drawn

        kinds: dict[str, Callable[[], Sides]] = {
            "five seeds": lambda: sides(SEEDS),
            "other processor": lambda: sides(SEEDS, "-avx2"),
            "same seeds": lambda: sides(SEEDS, "-avx2", same_seeds=True),
        }
        found: dict[str, Any] = {}
        for kind, draw in kinds.items():
            verdicts = self._verdicts(draw)
            found[kind] = {
                "any": share([_any(each, *DECIDED) for each in verdicts]),
                "worse": share([_any(each, Outcome.WORSE) for each in verdicts]),
                "alone": {name: share([each[name].p_value < statistics.LEVEL for each in verdicts]) for name in SIZES},
            }
        verdicts = self._verdicts(lambda: sides(1))
        found["one seed, images alone"] = {"any": share([_any(each, *DECIDED) for each in verdicts])}
        smallest = [min(statistics.holm([_mcnemar(*pair) for pair in sides(1).values()])) for _ in range(self.draws)]
        found["one seed, McNemar"] = {"any": share([p_value < statistics.LEVEL for p_value in smallest])}
        return found

    def power(self, pool: str) -> dict[str, Any]:
        """Compare seeds of mlp64 with those of a pool that has more hidden units."""

        def better(count: int) -> dict[str, Any]:
            verdicts = self._verdicts(lambda: {"mlp64": self._pair("mlp64", pool, count)})
            return share([_any(verdict, Outcome.BETTER) for verdict in verdicts])

        ones = [self._pair("mlp64", pool, 1) for _ in range(self.draws)]
        found = [_mcnemar(base, head) < statistics.LEVEL and head.sum() < base.sum() for base, head in ones]
        return {
            "difference": float(self.pools["mlp64"].mean() - self.pools[pool].mean()),
            "better": {str(count): better(count) for count in MORE_SEEDS},
            "better_by_mcnemar": share(found),
        }

    def coverage(self, base: str, head: str) -> dict[str, Any]:
        """Count the intervals that contain the difference of the whole pools."""
        truth = float(self.pools[base].mean() - self.pools[head].mean())
        draws = [self._pair(base, head, SEEDS) for _ in range(self.draws)]
        found = {"difference": truth, "same images": share([_covers(truth, *pair) for pair in draws])}
        if self.writers is None:
            return found
        # New writers: drawn with replacement from those of the test images, each with all their digits.
        _, cluster = np.unique(self.writers, return_inverse=True)
        members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])
        unknown, known = [], []
        for pair in draws:
            chosen = [members[index] for index in self.random.integers(0, len(members), len(members))]
            images = np.concatenate(chosen)
            writers = np.repeat(np.arange(len(chosen)), [len(each) for each in chosen])
            sides = pair[0][:, images], pair[1][:, images]
            unknown.append(_covers(truth, *sides))
            known.append(_covers(truth, *sides, writers=writers))
        return found | {"other writers": share(unknown), "other writers, known": share(known)}

    def design_effects(self, writers: NDArray[np.int64]) -> dict[str, Any]:
        """Return by how much clusters of writers raise the variance of accuracies and of their differences."""

        def effect(values: NDArray[np.float64], flips: float) -> float:
            clustered = statistics.variance_between_images(values, flips, 1, writers).variance
            return clustered / statistics.variance_between_images(values, flips, 1, None).variance

        rates = {name: self.pools[name].mean(axis=0) for name in SIZES}
        flips = {name: statistics.flips(rates[name], len(self.pools[name])) for name in SIZES}
        return {
            "writers": len(np.unique(writers)),
            "accuracy": {name: effect(rates[name], flips[name]) for name in SIZES},
            "difference": {
                f"{base} and {head}": effect(rates[head] - rates[base], flips[base] + flips[head])
                for base, head in combinations(SIZES, 2)
            },
        }

    def _pair(self, base: str, head: str, count: int) -> tuple[Errors, Errors]:
        """Return `count` different seeds of two pools."""
        base_errors, head_errors = self.pools[base], self.pools[head]
        base_order, head_order = (self.random.permutation(len(errors)) for errors in (base_errors, head_errors))
        return base_errors[base_order[:count]], head_errors[head_order[:count]]

    def _verdicts(self, draw: Callable[[], Sides]) -> list[dict[str, Verdict]]:
        return [
            comparison.compare({name: (_result(base), _result(head)) for name, (base, head) in draw().items()})
            for _ in range(self.draws)
        ]


def _result(errors: Errors) -> Result:
    return Result(errors.sum(axis=1).tolist(), errors.sum(axis=0))


def _any(verdicts: Mapping[str, Verdict], *outcomes: Outcome) -> bool:
    return any(verdict.outcome in outcomes for verdict in verdicts.values())


def _covers(truth: float, base: Errors, head: Errors, writers: NDArray[np.int64] | None = None) -> bool:
    low, high = comparison.compare({"": (_result(base), _result(head))}, writers=writers)[""].interval
    return low <= truth <= high


def _mcnemar(base: Errors, head: Errors) -> float:
    """Return the p-value of McNemar's exact test of one seed against another."""
    newly_wrong, newly_right = int((head[0] & ~base[0]).sum()), int((base[0] & ~head[0]).sum())
    discordant = newly_wrong + newly_right
    return float(binomtest(newly_wrong, discordant).pvalue) if discordant else 1.0


def main() -> None:
    """Train the pools that are missing, measure, and write the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--writers", nargs=2, metavar=("TABLE", "SHA256"), help="QMNIST's table, a path or a URL")
    parser.add_argument("--train", choices=POOLS, metavar="POOL", help="only train one pool, in this process")
    given = parser.parse_args()
    if given.train:
        train(given.train)
        return
    for name, pool in POOLS.items():
        if not pool_file(name).exists():
            print(f"training {len(pool.seeds)} seeds: {name}", flush=True)
            command = [sys.executable, __file__, "--train", name]
            if subprocess.run(command, check=False, env={**os.environ, **pool.environment}).returncode:
                raise UserError(f"pool {name} could not be trained: see its error message above")
    pools = {name: read(name) for name in POOLS}
    table = params.Writers(source=given.writers[0], sha256=given.writers[1]) if given.writers else None
    writers = read_writers(table, ROOT / paths.WRITERS, pools["cnn"].shape[1]) if table else None
    write_json(RESULTS, Draws(pools, writers).results() | {"provenance": provenance()})


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"calibration: {error}")
