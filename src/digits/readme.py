"""The tables of README.md, written from metrics/ and benchmarks/ so that no figure in them can go stale."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from digits.errors import UserError
from digits.files import read_json, replacing

BLOCK = re.compile(r"(?P<begin><!-- table: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
PEERS = {
    "digits": "this repository",
    "keras": "Keras's `fit`",
    "pytorch": "PyTorch's loop",
    "sklearn": "scikit-learn's `MLPClassifier`",
    "jax": "JAX, a compiled `scan`",
    "numpy": "NumPy, the matrix products alone",
}
WORDS = {True: "yes", False: "**no**", None: "not run"}


def rendered(text: str, root: Path) -> str:
    """Return README.md's text with the inside of each `<!-- table: NAME -->` … `<!-- end -->` written anew.

    Args:
        text: the file as it is.
        root: the folder of metrics/ and benchmarks/.

    Raises:
        UserError: a table has a name that is not known, or a metrics file is missing.
    """

    def block(found: re.Match[str]) -> str:
        if found["name"] not in TABLES:
            raise UserError(f"README.md: '{found['name']}' is no table: {', '.join(TABLES)} are")
        return f"{found['begin']}\n{TABLES[found['name']](root)}\n{found['end']}"

    return BLOCK.sub(block, text)


def update(readme: Path, root: Path) -> None:
    """Write the tables of README.md anew."""
    text = rendered(readme.read_text(encoding="utf-8"), root)
    with replacing(readme) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; a column whose cells are all numbers is aligned right."""
    number = re.compile(r"[-+−]?[\d.,]+( %)?( .*)?")
    right = [all(number.fullmatch(row[index]) for row in rows) for index in range(len(header))]
    lines = [header, ["--:" if is_right else ":--" for is_right in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _results(root: Path) -> str:
    rows = []
    for variant in read_json(root / "metrics/summary.json"):
        figures = read_json(root / "metrics/variants" / f"{variant}.json")
        test, best = figures["test"], figures["best"]
        lower, upper = test["accuracy_interval"]
        rows.append(
            [
                f"`{variant}`",
                f"{figures['parameters']:,}",
                f"{_percent(test['accuracy'])} ({_percent(lower)} to {_percent(upper)})",
                f"{test['errors']:,}",
                f"{test['loss']:.3f}",
                f"{figures['calibration']['expected_error']:.3f}",
                f"{_percent(best['accuracy'])} at {best['epoch']}, chosen on {best['selected_on']}",
            ]
        )
    epochs = {values["epochs"] for values in read_json(root / "metrics/summary.json").values()}
    return _table(
        [
            "variant",
            "parameters",
            f"test accuracy after {' or '.join(map(str, sorted(epochs)))} epochs (95 % interval)",
            "errors",
            "loss",
            "calibration error",
            "test accuracy at the best epoch",
        ],
        rows,
    )


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "not run"
    text = f"{value:,.0f}" if value == int(value) else f"{value:.{digits}g}"
    return text.replace("-", "−")


def _percent(share: float | None, places: int = 2) -> str:
    return "–" if share is None else f"{share * 100:.{places}f} %"


def _published(root: Path) -> str:
    return _table(
        ["report", "section", "quantity", "published", "measured", "difference", "tolerance", "reproduced"],
        [
            [
                row["report"],
                row["section"],
                row["quantity"],
                _number(row["published"], 6),
                _number(row["measured"], 6),
                _number(row["difference"], 3),
                f"{row['tolerance']:g}",
                _reproduced(row),
            ]
            for row in read_json(root / "metrics/published.json")["numbers"]
        ],
    )


def _reproduced(row: dict[str, Any]) -> str:
    """Say whether the pipeline gives a published number, or which experiments do."""
    by = [f"`{name}`" for name, found in row["experiments"].items() if found["reproduced"]]
    return WORDS[row["reproduced"]] if row["reproduced"] or not by else f"by {', '.join(by)}"


def _claims(root: Path) -> str:
    return _table(
        ["report", "section", "claim", "from", "to", "holds"],
        [
            [row["report"], row["section"], row["claim"], _number(row["from"]), _number(row["to"]), WORDS[row["holds"]]]
            for row in read_json(root / "metrics/published.json")["claims"]
        ],
    )


def _errors(root: Path) -> str:
    rows = []
    for variant in read_json(root / "metrics/summary.json"):
        figures = read_json(root / "metrics/variants" / f"{variant}-errors.json")
        resemblance, rare, overlap = (figures[reason] for reason in ("resemblance", "rare_style", "overlap"))
        pair = overlap["pairs"][0]
        shares = [resemblance[group]["share"] for group in ("wrong", "right")]
        distances = [rare[group]["distance_quartiles"] for group in ("wrong", "right")]
        rows.append(
            [
                f"`{variant}`",
                " against ".join(_percent(share, 1) for share in shares),
                " against ".join("–" if values is None else f"{values[1]:.2f}" for values in distances),
                f"{pair['digits'][0]} and {pair['digits'][1]}, {pair['observed']} times"
                + (f" ({pair['ratio']:.1f} times chance)" if pair["ratio"] else ""),
                f"{_percent(overlap['share_of_errors'], 0)} in {overlap['pairs_above_chance']} pairs",
            ]
        )
    return _table(
        [
            "variant",
            "nearest training image is another digit: wrong against right answers",
            "median distance to the nearest training image of the same digit: wrong against right",
            "most confused pair",
            "errors in pairs confused above chance",
        ],
        rows,
    )


def _experiments(root: Path) -> str:
    rows = []
    for name, experiment in read_json(root / "metrics/experiments.json").items():
        for index, row in enumerate(experiment["numbers"]):
            spread = row["standard_deviation"]
            rows.append(
                [
                    f"`{name}`: {experiment['says']}" if index == 0 else "",
                    row["report"],
                    row["quantity"] + (f" (epoch {row['epoch']})" if row["epoch"] else ""),
                    _number(row["published"], 6),
                    _number(row["mean"]) + ("" if spread is None else f" ± {spread:.2g}"),
                    f"{row['tolerance']:g}",
                    WORDS[row["reproduced"]],
                ]
            )
    return _table(["experiment", "report", "quantity", "published", "measured", "tolerance", "reproduced"], rows)


def _speed(root: Path) -> str:
    section = read_json(root / "benchmarks/results.json")["epoch"]
    seconds = {name: [each[name]["seconds"] for each in section["rounds"]] for name in section["test"]}
    rows = []
    for name, values in seconds.items():
        ratio = median(theirs / ours for theirs, ours in zip(values, seconds["digits"], strict=True))
        rows.append([PEERS[name], f"{median(values):.2f}", f"{ratio:.2g}", _percent(section["test"][name])])
    epochs = len(section["rounds"]) + 1
    return _table(
        ["one epoch of `mlp128`", "seconds", "times as long", f"test accuracy after {epochs} epochs"],
        rows,
    )


def _convolutional(root: Path) -> str:
    runs = read_json(root / "benchmarks/results.json")["accuracy"]["runs"]
    rows = []
    for variant in dict.fromkeys(run["variant"] for run in runs):
        chosen = [run for run in runs if run["variant"] == variant]
        last = [run["accuracies"][-1] for run in chosen]
        rows.append(
            [
                f"`{variant}`",
                f"{chosen[0]['parameters']:,}",
                f"{len(chosen[0]['seconds'])}",
                f"{_percent(mean(last))} ± {_percent(stdev(last))}",
                f"{median(run['seconds'][-1] for run in chosen):.0f}",
            ]
        )
    seeds = len({run["seed"] for run in runs})
    return _table(["variant", "parameters", "epochs", f"test accuracy, {seeds} seeds", "seconds of training"], rows)


TABLES: dict[str, Callable[[Path], str]] = {
    "results": _results,
    "published": _published,
    "claims": _claims,
    "errors": _errors,
    "experiments": _experiments,
    "speed": _speed,
    "convolutional": _convolutional,
}
