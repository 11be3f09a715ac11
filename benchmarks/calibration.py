"""Measure how often the verdict of a review is right, and write calibration.json and calibration.png beside this file.

    make calibration                                         # train the pools that are missing, then measure
    python benchmarks/calibration.py --writers TABLE SHA256  # with QMNIST's table, as in evaluate.writers

Training all pools takes half an hour on two cores, and measuring a few minutes; the errors of all seeds are kept in
calibration/. A draw takes five seeds from a pool for each side, so that the truth about the two sides is known from the
whole pools. Draws from one pool share its seeds: the intervals of the shares account for the number of draws, not for
the size of the pools.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from calibration_pool import POOLS, ROOT, SIZES, UNITS, read
from matplotlib.figure import Figure
from numpy.typing import NDArray
from run import commit, machine, versions
from scipy.stats import binomtest

from digits.core import params, paths
from digits.core.artifacts import round_floats, write_json
from digits.core.errors import UserError
from digits.data.writers import read_writers
from digits.evaluation import comparison, statistics
from digits.evaluation.comparison import Outcome, Result, Verdict
from digits.plots import COLORS, STYLE, save

RESULTS, FIGURE = ROOT / "benchmarks/calibration.json", ROOT / "benchmarks/calibration.png"
DRAWS = 1000
SEEDS = 5  # of each side
MORE_SEEDS = (5, 10, 15, 20)
PAIRS = (("softmax", "mlp64"), ("mlp128", "mlp64"), ("mlp64", "cnn"), ("mlp64", "mlp64-80"), ("mlp64", "mlp64-96"))

Errors = NDArray[np.bool_]  # (seeds, images)
Draw = Callable[[], dict[str, tuple[Errors, Errors]]]


@dataclass(frozen=True)
class Share:
    """How often something happened in the draws, with the 95 % interval of Clopper and Pearson."""

    share: float
    interval: tuple[float, float]


def share(events: Sequence[bool]) -> Share:
    """Return the share of draws with an event."""
    interval = binomtest(int(np.sum(events)), len(events)).proportion_ci()
    return Share(float(np.mean(events)), (float(interval.low), float(interval.high)))


class Calibration:
    """Draws of two sides from pools, always the same for the same pools."""

    def __init__(self, pools: Mapping[str, Errors], writers: NDArray[np.int64] | None, draws: int = DRAWS) -> None:
        self.pools, self.writers, self.draws = pools, writers, draws
        self.random = np.random.default_rng(0)

    def results(self) -> dict[str, Any]:
        """Measure everything."""
        found = {
            "draws": self.draws,
            "seeds": SEEDS,
            "pools": {name: self._pool(name) for name in self.pools},
            "false_verdicts": self._false_verdicts(),
            "power": {str(units): self._power(f"mlp64-{units}") for units in UNITS},
            "coverage": {f"{base} and {head}": self._coverage(base, head) for base, head in PAIRS},
        }
        if self.writers is not None:
            found["design_effects"] = self._design_effects(self.writers)
        return found

    def _pool(self, name: str) -> dict[str, Any]:
        errors = self.pools[name].sum(axis=1)
        return {"seeds": len(errors), "errors": float(errors.mean()), "std": float(errors.std(ddof=1))}

    def _seeds(self, pool: str, count: int) -> Errors:
        """Return a number of different seeds of a pool."""
        return self.pools[pool][self.random.permutation(len(self.pools[pool]))[:count]]

    def _verdicts(self, draw: Draw) -> list[dict[str, Verdict]]:
        return [
            comparison.compare({name: (_result(base), _result(head)) for name, (base, head) in draw().items()})
            for _ in range(self.draws)
        ]

    def _false_verdicts(self) -> dict[str, Any]:
        """Compare seeds of the same code, which no verdict should tell apart."""

        def sides(count: int, head: str = "", *, same_seeds: bool = False) -> Draw:
            """Return draws of `count` seeds for each side; `head` is the end of the name of the head's pools."""

            def draw() -> dict[str, tuple[Errors, Errors]]:
                drawn = {}
                for name in SIZES:
                    order = self.random.permutation(len(self.pools[name]))
                    others = order[:count] if same_seeds else order[count : 2 * count]
                    drawn[name] = self.pools[name][order[:count]], self.pools[name + head][others]
                return drawn

            return draw

        kinds = {
            "five seeds": sides(SEEDS),
            "other processor": sides(SEEDS, "-avx2"),
            "same seeds": sides(SEEDS, "-avx2", same_seeds=True),
        }
        found: dict[str, Any] = {}
        for kind, draw in kinds.items():
            verdicts = self._verdicts(draw)
            found[kind] = {
                "any": share([any(_decided(each) for each in verdict.values()) for verdict in verdicts]),
                "worse": share(
                    [any(each.outcome is Outcome.WORSE for each in verdict.values()) for verdict in verdicts]
                ),
                "alone": {
                    name: share([verdict[name].p_value < statistics.LEVEL for verdict in verdicts]) for name in SIZES
                },
                "detectable": {
                    name: float(np.mean([verdict[name].detectable for verdict in verdicts])) for name in SIZES
                },
            }
        one_seed = sides(1)
        found["one seed, images alone"] = {
            "any": share([any(_decided(each) for each in verdict.values()) for verdict in self._verdicts(one_seed)])
        }
        found["one seed, McNemar"] = {"any": share([_mcnemar_after_holm(one_seed()) for _ in range(self.draws)])}
        return found

    def _power(self, pool: str) -> dict[str, Any]:
        """Compare seeds of mlp64 with those of a pool that has more hidden units."""

        def better(count: int) -> Share:
            verdicts = self._verdicts(lambda: {"mlp64": (self._seeds("mlp64", count), self._seeds(pool, count))})
            return share([verdict["mlp64"].outcome is Outcome.BETTER for verdict in verdicts])

        ones = [(self._seeds("mlp64", 1), self._seeds(pool, 1)) for _ in range(self.draws)]
        return {
            "difference": float(self.pools["mlp64"].mean() - self.pools[pool].mean()),
            "better": {str(count): better(count) for count in MORE_SEEDS},
            "better_by_mcnemar": share(
                [_mcnemar(*pair) < statistics.LEVEL and pair[1].sum() < pair[0].sum() for pair in ones]
            ),
        }

    def _coverage(self, base: str, head: str) -> dict[str, Any]:
        """Count the intervals that contain the difference of the whole pools."""
        truth = float(self.pools[base].mean() - self.pools[head].mean())
        draws = [(self._seeds(base, SEEDS), self._seeds(head, SEEDS)) for _ in range(self.draws)]
        found = {"difference": truth, "same images": share([_covers(truth, *pair) for pair in draws])}
        if self.writers is None:
            return found
        # Other people: writers drawn with replacement from those of the test images, each with all their digits.
        _, cluster = np.unique(self.writers, return_inverse=True)
        members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])
        fixed, clustered = [], []
        for pair in draws:
            chosen = [members[index] for index in self.random.integers(0, len(members), len(members))]
            images = np.concatenate(chosen)
            people = np.repeat(np.arange(len(chosen)), [len(each) for each in chosen])
            sides = pair[0][:, images], pair[1][:, images]
            fixed.append(_covers(truth, *sides))
            clustered.append(_covers(truth, *sides, writers=people))
        return found | {"other writers": share(fixed), "other writers, known": share(clustered)}

    def _design_effects(self, writers: NDArray[np.int64]) -> dict[str, Any]:
        """Return by how much clusters of writers raise the variance of accuracies and of their differences."""

        def effect(values: NDArray[np.float64], flips: float) -> float:
            clustered = statistics.variance_between_images(values, flips, 1, writers).variance
            return clustered / statistics.variance_between_images(values, flips, 1, None).variance

        rates = {name: self.pools[name].mean(axis=0) for name in SIZES}
        flips = {name: statistics.flips(rates[name], len(self.pools[name])) for name in SIZES}
        pairs = [(base, head) for index, base in enumerate(SIZES) for head in list(SIZES)[index + 1 :]]
        return {
            "writers": len(np.unique(writers)),
            "accuracy": {name: effect(rates[name], flips[name]) for name in SIZES},
            "difference": {
                f"{base} and {head}": effect(rates[head] - rates[base], flips[base] + flips[head])
                for base, head in pairs
            },
        }


def _result(errors: Errors) -> Result:
    return Result(errors.sum(axis=1).tolist(), errors.sum(axis=0))


def _decided(verdict: Verdict) -> bool:
    return verdict.outcome in (Outcome.BETTER, Outcome.WORSE)


def _covers(truth: float, base: Errors, head: Errors, writers: NDArray[np.int64] | None = None) -> bool:
    low, high = comparison.compare({"": (_result(base), _result(head))}, writers=writers)[""].interval
    return low <= truth <= high


def _mcnemar(base: Errors, head: Errors) -> float:
    """Return the p-value of McNemar's exact test of one seed against another."""
    newly_wrong, newly_right = int((head[0] & ~base[0]).sum()), int((base[0] & ~head[0]).sum())
    discordant = newly_wrong + newly_right
    return float(binomtest(newly_wrong, discordant).pvalue) if discordant else 1.0


def _mcnemar_after_holm(sides: Mapping[str, tuple[Errors, Errors]]) -> bool:
    return min(statistics.holm([_mcnemar(*pair) for pair in sides.values()])) < statistics.LEVEL


def draw(results: Mapping[str, Any]) -> None:
    """Draw the false verdicts, and the power against the true difference."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        labels = {
            "one seed, McNemar": "one seed,\nMcNemar's test",
            "one seed, images alone": "one seed,\nimages alone",
            "five seeds": "five seeds",
            "other processor": "five seeds,\nother processor",
        }
        for row, kind in enumerate(labels):
            found = results["false_verdicts"][kind]["any"]
            value, low, high = (100 * part for part in (found["share"], *found["interval"]))
            color = COLORS[1] if kind.startswith("one seed") else COLORS[0]
            left.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=color, capsize=4)
        left.axvline(5, color=COLORS[6], linewidth=1, linestyle="--", label="5 %, the level of the test")
        left.set_yticks(range(len(labels)), list(labels.values()))
        left.set_ylim(len(labels) - 0.5, -0.5)
        left.set_xlim(left=0)
        left.set(title="Nothing changed but the seed", xlabel="reviews with a false verdict (%)")
        left.legend(loc="lower right")
        power = results["power"].values()
        sizes = [100 * row["difference"] for row in power]
        order = np.argsort(sizes)
        for column, color in zip(("20", "10", "5"), (COLORS[2], COLORS[4], COLORS[0]), strict=True):
            shares = [100 * row["better"][column]["share"] for row in power]
            right.plot(np.take(sizes, order), np.take(shares, order), "o-", color=color, label=f"{column} seeds a side")
        shares = [100 * row["better_by_mcnemar"]["share"] for row in power]
        right.plot(np.take(sizes, order), np.take(shares, order), "o-", color=COLORS[1], label="one seed, McNemar")
        right.axhline(80, color=COLORS[6], linewidth=1, linestyle="--", label="80 %")
        right.set(
            title="mlp64 with 68, 72, 80 or 96 hidden units",
            xlabel="true difference in accuracy (percentage points)",
            ylabel='verdict "better" (%)',
        )
        right.set_ylim(0, 103)
        right.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
        figure.suptitle("How often a review is wrong, and how often it finds a difference")
        save(figure, FIGURE)


def train_missing() -> None:
    """Train the pools that have no file, each in a process with its environment variables."""
    for pool in POOLS.values():
        if pool.path.exists():
            continue
        print(f"training {len(pool.seeds)} seeds: {pool.name}", flush=True)
        command = [sys.executable, str(ROOT / "benchmarks/calibration_pool.py"), pool.name]
        if subprocess.run(command, check=False, env={**os.environ, **pool.environment}).returncode:
            raise UserError(f"pool {pool.name} could not be trained: see its error message above")


def main() -> None:
    """Train the pools that are missing, measure, and write the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--writers", nargs=2, metavar=("TABLE", "SHA256"), help="QMNIST's table, a path or a URL")
    given = parser.parse_args()
    try:
        train_missing()
        pools = {name: read(pool) for name, pool in POOLS.items()}
        table = params.Writers(source=given.writers[0], sha256=given.writers[1]) if given.writers else None
        images = next(iter(pools.values())).shape[1]
        writers = read_writers(table, ROOT / paths.WRITERS, images) if table else None
    except UserError as error:
        sys.exit(f"calibration: {error}")
    results = Calibration(pools, writers).results()
    results["provenance"] = {"commit": commit(), "machine": machine(), "versions": versions()}
    plain = round_floats(_plain(results))
    write_json(RESULTS, plain)
    draw(plain)
    print(f"written: {RESULTS.relative_to(ROOT)}, {FIGURE.relative_to(ROOT)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        return {"share": value.share, "interval": list(value.interval)}
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
