"""From the numbers of results.json to results.md: medians, ratios, and whether what was wanted was reached."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2

GIB = 2**30
SHOWN_WHOLE = 100  # numbers from here on have no decimal places
TEMPLATE = "results.md.j2"
NAMES = {
    "digits": "digits: the compiled epoch",
    "keras": "Keras: `fit`",
    "pytorch": "PyTorch",
    "sklearn": "scikit-learn: `MLPClassifier`",
    "jax": "JAX: a compiled `scan`",
    "numpy": "NumPy: the matrix products alone",
}


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one quantity."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True)
class Check:
    """What was wanted of a quantity beside what was measured of it.

    Attributes:
        says: the quantity.
        sense: whether more or less is better.
        bound: what was wanted.
        measured: the measurements; their median is held against the bound.
        unit: "x" for a ratio, "s", "GiB" or "%".
        note: what must stand beside the number, such as that it is a lower bound.
        possible: False where the measurement was cut short of what the bound is about.
    """

    says: str
    sense: Literal["at least", "at most"]
    bound: float
    measured: Spread
    unit: str
    note: str = ""
    possible: bool = True

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound, unrounded."""
        median = self.measured.median
        return self.possible and (median >= self.bound if self.sense == "at least" else median <= self.bound)


@dataclass(frozen=True)
class Line:
    """Seconds against a size, and the straight line that fits them best by least squares.

    Attributes:
        title: of the panel.
        unit: of the sizes.
        quantity: what the seconds are of.
        at: the sizes.
        seconds: measured.
        slope: seconds for one more.
        intercept: seconds at a size of 0.
    """

    title: str
    unit: str
    quantity: str
    at: list[int]
    seconds: list[float]
    slope: float
    intercept: float

    @classmethod
    def through(cls, title: str, unit: str, quantity: str, at: list[int], seconds: list[float]) -> "Line":
        slope, intercept = statistics.linear_regression(at, seconds)
        return cls(title, unit, quantity, at, seconds, slope, intercept)

    def value(self, at: float) -> float:
        """Return the line's seconds at a size."""
        return self.intercept + self.slope * at

    @property
    def farthest(self) -> float:
        """The greatest distance of a measurement from the line, as a share of the longest time."""
        pairs = zip(self.at, self.seconds, strict=True)
        return max(abs(seconds - self.value(at)) for at, seconds in pairs) / max(self.seconds)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios of two contestants, taken round by round."""
    return Spread.of(above / below for above, below in zip(numerators, denominators, strict=True))


def later(seconds: Sequence[float]) -> float:
    """Return the median of the seconds of all epochs but the first, which compiles."""
    return statistics.median(seconds[1:])


def epoch(section: dict[str, Any]) -> dict[str, Any]:
    """Return the rows and the checks of the section epoch."""
    seconds = {name: [each[name]["seconds"] for each in section["rounds"]] for name in section["test"]}
    rows = [
        {
            "name": NAMES[name],
            "seconds": Spread.of(values),
            "first": max(0.0, section["first"][name]["seconds"] - statistics.median(values)),
            "accuracy": section["rounds"][-1][name]["accuracy"],
            "test": section["test"][name],
            "ratio": ratios(values, seconds["digits"]),
        }
        for name, values in seconds.items()
    ]
    wanted = (("keras", 12.0), ("pytorch", 3.0), ("sklearn", 3.0), ("jax", 1.0))
    checks = [
        Check(
            f"{NAMES[name]}, time over that of digits", "at least", bound, ratios(seconds[name], seconds["digits"]), "x"
        )
        for name, bound in wanted
    ]
    floor = ratios(seconds["digits"], seconds["numpy"])
    checks.append(Check(f"digits, time over that of {NAMES['numpy']}", "at most", 1.6, floor, "x"))
    return {"rows": rows, "checks": checks, "rounds": len(section["rounds"]), "epochs": len(section["rounds"]) + 1}


def grid(section: dict[str, Any]) -> dict[str, Any]:
    """Return seconds and the check of the section grid; the time of the runs of `fit` is computed from a line."""
    epochs = section["epochs"]
    total = epochs * (epochs + 1) // 2
    ours = [each["digits"] for each in section["rounds"]]
    lines = [
        statistics.linear_regression(
            [fit["epochs"] for fit in each["keras"]], [fit["seconds"] for fit in each["keras"]]
        )
        for each in section["rounds"]
    ]
    theirs = [epochs * line.intercept + total * line.slope for line in lines]
    return {
        "epochs": epochs,
        "total": total,
        "fits": [fit["epochs"] for fit in section["rounds"][0]["keras"]],
        "digits": Spread.of(ours),
        "slope": Spread.of(line.slope for line in lines),
        "fixed": Spread.of(line.intercept for line in lines),
        "keras": Spread.of(theirs),
        "checks": [
            Check("time of the runs of `fit` over that of the one run", "at least", 150.0, ratios(theirs, ours), "x")
        ],
    }


def reaching(curve: dict[str, list[float]], accuracy: float) -> tuple[float, int | None]:
    """Return the training seconds until an accuracy was first reached, and after how many epochs.

    If it never was: the seconds of the whole run, and None.
    """
    for number, (seconds, reached) in enumerate(zip(curve["seconds"], curve["accuracies"], strict=True), 1):
        if reached >= accuracy:
            return seconds, number
    return curve["seconds"][-1], None


def target(section: dict[str, Any]) -> dict[str, Any]:
    """Return the rows and the checks of the section target."""
    rows = []
    for run in section["runs"]:
        row: dict[str, Any] = {"seed": run["seed"], "keras": None}
        for name in run.keys() & {"digits", "keras"}:
            seconds, epochs = reaching(run[name], section["accuracy"])
            best = max(run[name]["accuracies"])
            row[name] = {"seconds": seconds, "epochs": epochs, "trained": len(run[name]["seconds"]), "best": best}
        rows.append(row)
    both = [row for row in rows if row["keras"]]
    ours = [row["digits"]["seconds"] for row in rows]
    theirs = [row["keras"]["seconds"] for row in both]
    ours_reach = all(row["digits"]["epochs"] is not None for row in rows)
    theirs_reach = all(row["keras"]["epochs"] is not None for row in both)
    short = "" if ours_reach else "digits did not get there with every seed"
    # Where Keras never gets there, it would have taken longer than was measured, and the ratio would be greater.
    note = short or ("" if theirs_reach else "a lower bound, as Keras did not get there with every seed")
    return {
        "rows": rows,
        "cap": section["cap"],
        "accuracy": section["accuracy"],
        "digits": Spread.of(ours),
        "keras": Spread.of(theirs),
        "checks": [
            Check("digits, training time to the target", "at most", 8.0, Spread.of(ours), "s", short, ours_reach),
            Check(
                "Keras's example, time over that of digits",
                "at least",
                12.0,
                ratios(theirs, ours[: len(theirs)]),
                "x",
                note,
                ours_reach,
            ),
        ],
    }


def accuracy(section: dict[str, Any]) -> dict[str, Any]:
    """Return the rows and the checks of the section accuracy."""
    rows, checks = [], []
    for variant, bound in (("cnn", 99.3), ("cnn-large", 99.6)):
        runs = [run for run in section["runs"] if run["variant"] == variant]
        last = [run["accuracies"][-1] for run in runs]
        mean = statistics.mean(last)
        seconds = Spread.of(run["seconds"][-1] for run in runs)
        rows.append(
            {
                "variant": variant,
                "parameters": runs[0]["parameters"],
                "seeds": len(runs),
                "epochs": len(runs[0]["seconds"]),
                "accuracies": last,
                "mean": mean,
                "deviation": statistics.stdev(last) if len(last) > 1 else None,
                "seconds": seconds,
            }
        )
        says = f"`{variant}`, mean test accuracy of {len(runs)} seeds"
        checks.append(Check(says, "at least", bound, Spread.of([100 * mean]), "%"))
    checks.append(Check("`cnn-large`, training time", "at most", 600.0, rows[-1]["seconds"], "s"))
    return {"rows": rows, "checks": checks}


def bounds(section: dict[str, Any]) -> dict[str, Any]:
    """Return, by variant, a step's milliseconds, and those that its operations and its bytes take at the least.

    This is the roofline of Williams, Waterman and Patterson, Communications of the ACM 52 (2009), p. 65.
    """
    limits = section["limits"]
    rows = []
    for variant, step in section["steps"].items():
        computing, moving = (1000 * step[key] / limits[key] for key in ("operations", "bytes"))
        measured = Spread.of(1000 * seconds for seconds in step["seconds"][1:])
        rows.append(
            {
                "variant": variant,
                "batch": step["batch"],
                "operations": step["operations"] / 1e6,
                "bytes": step["bytes"] / 1e6,
                "computing": computing,
                "moving": moving,
                "measured": measured,
                "share": max(computing, moving) / measured.median,
            }
        )
    return {"rows": rows, "operations": limits["operations"] / 1e9, "bytes": limits["bytes"] / 1e9}


def pipeline(section: dict[str, Any]) -> dict[str, Any]:
    """Return the rows, the sums and the checks of the section pipeline."""
    full, experiment = section["full"], section["experiment"]
    rows = [
        stage | {"work": stage["seconds"] - stage["startup"] - stage["compiling"], "peak": stage["peak"] / GIB}
        for stage in full["stages"]
    ]
    training = sum(row["training"] for row in rows)
    idle = Spread.of(run["seconds"] for run in section["idle"])
    parts = {key: sum(row[key] for row in experiment["stages"]) for key in ("startup", "seconds", "training")}

    def once(value: float) -> Spread:
        return Spread.of([value])

    return {
        "rows": rows,
        "sums": {key: sum(row[key] for row in rows) for key in ("startup", "compiling", "work", "seconds", "training")},
        "dvc": full["seconds"] - sum(row["seconds"] for row in rows),
        "idle": idle,
        "experiment": parts | {"count": len(experiment["stages"]), "dvc": experiment["seconds"] - parts["seconds"]},
        "checks": [
            Check(f"`{full['command']}` in a new clone", "at most", 110.0, once(full["seconds"]), "s"),
            Check("of it, all but training", "at most", 45.0, once(full["seconds"] - training), "s"),
            Check(f"`{experiment['command']}`", "at most", 60.0, once(experiment["seconds"]), "s"),
            Check("most memory of any stage", "at most", 1.5, once(max(row["peak"] for row in rows)), "GiB"),
        ],
    }


def growth_lines(section: dict[str, Any]) -> list[Line]:
    """Return seconds against epochs, against training images and against hidden units."""
    run = section["epochs"]["seconds"]
    done = [sum(run[: number + 1]) for number in range(len(run))]
    lines = [Line.through("Epochs", "epochs", "seconds since the start", list(range(1, len(run) + 1)), done)]
    for key, title, unit in (("images", "Training images", "images"), ("units", "Hidden units", "hidden units")):
        sizes, seconds = [each[key] for each in section[key]], [later(each["seconds"]) for each in section[key]]
        lines.append(Line.through(title, unit, "seconds an epoch", sizes, seconds))
    return lines


def growth(section: dict[str, Any]) -> dict[str, Any]:
    """Return the lines and the memory of the section growth, and how many images this machine's memory would hold."""
    sizes, peaks = [each["images"] for each in section["images"]], [each["peak"] for each in section["images"]]
    each, fixed = statistics.linear_regression(sizes, peaks)
    return {
        "lines": growth_lines(section),
        "peaks": [peak / GIB for peak in peaks],
        "each": each,
        "fixed": fixed / GIB,
        "limit": (section["made"]["machine"]["memory"] - fixed) / each,
        "memory": section["made"]["machine"]["memory"] / GIB,
    }


SUMMARIES = {
    "epoch": epoch,
    "grid": grid,
    "target": target,
    "accuracy": accuracy,
    "bounds": bounds,
    "pipeline": pipeline,
    "growth": growth,
}


def render(results: dict[str, Any], folder: Path) -> str:
    """Return results.md.

    Args:
        results: by section, what it measured; under `made`, where and of what: machine, versions, commit, short.
        folder: of the templates.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # Markdown
    )
    environment.filters |= {"number": number, "spread": spread, "bound": bound, "percent": percent}
    made: list[dict[str, Any]] = []
    for name, section in results.items():  # most often one environment for all
        where = {key: section["made"][key] for key in ("machine", "versions")}
        for known in made:
            if known["where"] == where:
                known["sections"].append(name)
                break
        else:
            made.append({"where": where, "sections": [name]})
    summaries = {name: SUMMARIES[name](section) | {"made": section["made"]} for name, section in results.items()}
    return environment.get_template(TEMPLATE).render(made=made, gib=GIB, **dict.fromkeys(SUMMARIES) | summaries)


def number(value: float) -> str:
    """Return a number with three significant digits, or with all those before the point."""
    if abs(value) >= SHOWN_WHOLE:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def spread(value: Spread, unit: str = "") -> str:
    """Return the median and, where there is more than one measurement, the least and the greatest."""
    text = f"{value.median:.2f} %" if unit == "%" else number(value.median) + _unit(unit)
    return text if value.low == value.high else f"{text} ({number(value.low)} to {number(value.high)})"


def bound(check: Check) -> str:
    """Return what was wanted, in words."""
    return f"{check.sense} {check.bound:g}{_unit(check.unit)}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with two decimal places; a dash for none."""
    return "–" if share is None else f"{share:.2%}".replace("%", " %")


def _unit(unit: str) -> str:
    return "×" if unit == "x" else f" {unit}" if unit else ""
