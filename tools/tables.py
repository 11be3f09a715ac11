"""Write the tables of README.md and docs/ from metrics/ and benchmarks/results.json.

python tools/tables.py            # write the tables that differ from the results in the work tree
python tools/tables.py --check    # fail if a committed table differs from the committed results

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in any Markdown file; TABLES lists the names. `--check`
reads Git's HEAD alone: the results in a work tree change with every experiment, and with the kind of processor.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from digits.core.artifacts import write_text
from digits.core.chance import is_chance
from digits.core.errors import UserError
from digits.core.formatting import percent, percent_spread, points
from digits.evaluation.error_analysis import GROUPS
from digits.evaluation.statistics import spread
from digits.versioning import lock
from digits.versioning.git import git
from digits.versioning.revisions import Revision, workspace

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from peers import PEERS

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(?P<begin><!-- table: (?P<name>[a-z-]+) -->\n)(?:(?!<!-- table: ).)*?(?P<end><!-- end -->|(?=<!-- table: )|\Z)",
    re.DOTALL,
)
NUMERIC = re.compile(r"[-+−]?[\d.,]+( %)?( .*)?")  # a cell of a column that is aligned right
WORDS = {True: "yes", False: "**no**", None: "unknown from one seed"}


def head(root: Path) -> Revision:
    """Return the commit that is checked out."""
    return Revision(root, "HEAD", git(root, "rev-parse", "HEAD").strip())


def files(revision: Revision) -> list[Path]:
    """Return the files of a commit, or those of the workspace that Git does not ignore, relative to the root."""
    if revision.commit is None:
        listed = git(revision.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    else:
        listed = git(revision.root, "ls-tree", "-z", "-r", "--name-only", revision.commit)
    return sorted(Path(name) for name in listed.split("\0") if name)


def pages(revision: Revision) -> dict[Path, str]:
    """Return the texts of the Markdown files by path."""
    texts = {path: revision.text(path) for path in files(revision) if path.suffix == ".md"}
    return {path: text for path, text in texts.items() if text is not None}


def rendered(text: str, page: Path, results: Revision) -> str:
    """Return the text of a page with its tables written from results.

    Raises:
        UserError: a table has an unknown name or no end, or a file of results is missing.
    """

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in TABLES:
            raise UserError(f"{page}: '{name}' is not a table: the tables are {', '.join(TABLES)}")
        if not found["end"]:
            raise UserError(f"{page}: table '{name}' has no end: write `<!-- end -->` below it")
        try:
            table = markdown(TABLES[name](results))
        except (KeyError, TypeError, ValueError) as error:  # written by another version of the code, or by hand
            raise UserError(f"{page}: table '{name}' does not fit the files in {results.name}: {error!r}") from None
        return f"{found['begin']}\n{table}\n{found['end']}"

    return BLOCK.sub(block, text)


def write(root: Path) -> list[str]:
    """Write the tables that differ from the results in the work tree, and return a line for each changed row.

    Raises:
        UserError: a table cannot be written; no page is changed.
    """
    results = workspace(root)
    texts = pages(results)
    updates = {page: rendered(text, page, results) for page, text in texts.items()}  # all, before one is written
    lines = []
    for page, updated in updates.items():
        if updated != texts[page]:
            write_text(root / page, updated)
            lines += [
                f"{page}: table '{old['name']}': {change}"
                for old, new in differing(texts[page], updated)
                for change in changes(old[0], new[0])
            ]
    return lines


def check(root: Path) -> list[str]:
    """Return a line for each committed table that differs from the committed results, and for each that no page has."""
    results = head(root)
    lines, found = [], set()
    for page, text in pages(results).items():
        found |= {block["name"] for block in BLOCK.finditer(text)}
        try:
            updated = rendered(text, page, results)
        except UserError as error:
            lines.append(str(error))
            continue
        lines += [
            f"{page}: table '{old['name']}' differs from the committed results: type `make tables`"
            for old, _ in differing(text, updated)
        ]
    return lines + [
        f"no page has table '{name}': write `<!-- table: {name} -->`" for name in TABLES if name not in found
    ]


def differing(text: str, updated: str) -> list[tuple[re.Match[str], re.Match[str]]]:
    """Return the blocks of the tables that differ between two versions of a page."""
    pairs = zip(BLOCK.finditer(text), BLOCK.finditer(updated), strict=True)
    return [(old, new) for old, new in pairs if old[0] != new[0]]


def changes(old: str, new: str) -> list[str]:
    """Return a line for each row that differs between two versions of a table: its first cells, and old → new ones."""
    before, after = _rows(old), _rows(new)
    if len(before) != len(after) or before[:1] != after[:1]:
        return ["written with other rows or columns"]
    lines = []
    for row, updated in zip(before, after, strict=True):
        pairs = list(zip(row, updated, strict=True))
        changed = [f"{cell.strip()} → {other.strip()}" for cell, other in pairs if cell != other]
        if changed:
            name = " ".join(cell.strip() for cell, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            lines.append(f"{name}: {', '.join(changed)}")
    return lines or ["written"]  # only the space around it differs


def _rows(text: str) -> list[list[str]]:
    """Return the cells of each line of a Markdown table, its header first."""
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]


def markdown(table: pd.DataFrame) -> str:
    """Return a table of strings as Markdown; a column in which every cell begins with a number is aligned right."""
    right = [all(NUMERIC.fullmatch(cell) for cell in table[column]) for column in table]
    header = [str(column) for column in table]
    lines = [header, ["--:" if is_right else ":--" for is_right in right], *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read(results: Revision, file: str) -> Any:
    """Return the content of a JSON file; raise UserError if the revision does not have it."""
    text = results.text(Path(file))
    if text is None:
        raise UserError(f"{file} is missing in {results.name}: type `dvc repro`")
    return json.loads(text)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a count of significant digits, but a whole number in full."""
    if value is None or pd.isna(value):
        return "not run"
    text = f"{value:,.0f}" if value == int(value) else f"{value:.{digits}g}"
    return text.replace("-", "−")


def results_table(results: Revision) -> pd.DataFrame:
    found = {name: read(results, f"metrics/variants/{name}.json") for name in read(results, "metrics/summary.json")}
    epochs = _numbers({metrics["epochs"] for metrics in found.values()})
    seeds = _seeds({len(metrics["seeds"]) for metrics in found.values()})
    rows = []
    for variant, metrics in found.items():
        test, best = metrics["test"], metrics["best"]
        lower, upper = test["accuracy_interval"]
        rows.append(
            {
                "variant": f"`{variant}`{_warning(metrics)}",
                "parameters": f"{metrics['parameters']:,}",
                f"test accuracy after {epochs} epochs, {seeds} (95 % interval)": (
                    f"{_accuracy(test['accuracy'])} ({percent(lower)} to {percent(upper)})"
                ),
                "errors": _errors(test["errors"]),
                "loss": f"{test['loss']['mean']:.3f}",
                "calibration error": f"{metrics['calibration']['expected_error']['mean']:.3f}",
                "test accuracy of the ensemble": percent(test["ensemble"]["accuracy"]),
                "test accuracy at the best epoch": (
                    f"{_accuracy(best['accuracy'])} at {best['epoch']}, chosen on {best['selected_on']}"
                ),
            }
        )
    return pd.DataFrame(rows)


def _warning(metrics: dict[str, Any]) -> str:
    """Return a remark on the seeds that are no better on the test images than a constant answer."""
    counts = [digit["support"] for digit in metrics["per_class"].values()]
    count = sum(is_chance(accuracy, counts) for accuracy in metrics["test"]["accuracy"]["values"])
    seeds = len(metrics["seeds"])
    return f" (**learned nothing**{'' if count == seeds else f' with {count} of {seeds} seeds'})" if count else ""


def _accuracy(spread: dict[str, Any]) -> str:
    return percent_spread(spread["mean"], spread["std"])


def _errors(spread: dict[str, Any]) -> str:
    """Return a mean number of errors, which is a whole number for one seed."""
    return f"{spread['mean']:,.0f}" if spread["std"] is None else f"{spread['mean']:,.1f} ± {spread['std']:,.1f}"


def _numbers(counts: set[int]) -> str:
    """Return the different numbers of the rows of a table."""
    return " or ".join(map(str, sorted(counts)))


def _seeds(counts: set[int]) -> str:
    return "1 seed" if counts == {1} else f"{_numbers(counts)} seeds"


def published_table(results: Revision) -> pd.DataFrame:
    content = read(results, "metrics/published.json")
    unmeasured = _unmeasured(content)

    def reproduced(row: dict[str, Any]) -> str:
        """Return whether the pipeline reproduces the number, or else which experiments do."""
        names = [f"`{name}`" for name, reproduced in row["experiments"].items() if reproduced]
        here = row["measured"] and row["measured"]["reproduced"]
        if names and not here:
            return f"by {', '.join(names)}"
        return unmeasured if row["measured"] is None else WORDS[here]

    rows = content["numbers"]
    header = _measured_header(rows)
    return pd.DataFrame(
        {
            "report": row["report"],
            "section": row["section"],
            "quantity": row["quantity"],
            "published": number(row["published"], 6),
            header: _measured(row["measured"]),
            "95 % prediction interval": _interval(row["measured"] and row["measured"]["interval"]),
            "reproduced": reproduced(row),
        }
        for row in rows
    )


def _unmeasured(content: dict[str, Any]) -> str:
    """Return what stands in place of a result in metrics/published.json, which may be of another data set."""
    return "not applicable" if "not_applicable" in content else "not run"


def _measured_header(rows: list[dict[str, Any]]) -> str:
    counts = {len(row["measured"]["values"]) for row in rows if row["measured"]} - {1}  # 1: the same with every seed
    return f"measured, {_seeds(counts)}" if counts else "measured"


def _measured(measured: dict[str, Any] | None) -> str:
    """Return a mean and its standard deviation."""
    if measured is None:
        return "not run"
    if measured["std"] is None:
        return number(measured["mean"], 6)
    return f"{number(measured['mean'])} ± {measured['std']:.2g}"


def _interval(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


def claims_table(results: Revision) -> pd.DataFrame:
    content = read(results, "metrics/published.json")
    return pd.DataFrame(
        {
            "report": row["report"],
            "section": row["section"],
            "claim": row["claim"],
            "from": number(row["from"]),
            "to": number(row["to"]),
            "95 % interval of the mean change": _interval(row["interval"]),
            "holds": _unmeasured(content) if row["from"] is None else WORDS[row["holds"]],
        }
        for row in content["claims"]
    )


def experiments_table(results: Revision) -> pd.DataFrame:
    experiments = read(results, "metrics/experiments.json")
    header = _measured_header([row for experiment in experiments.values() for row in experiment["numbers"]])
    rows = []
    for name, experiment in experiments.items():
        title = f"`{name}`: {experiment['description']}"
        for row in experiment["numbers"]:
            rows.append(
                {
                    "experiment": title,
                    "report": row["report"],
                    "quantity": row["quantity"] + (f" (epoch {row['epoch']})" if row["epoch"] else ""),
                    "published": number(row["published"], 6),
                    header: _measured(row["measured"]),
                    "95 % prediction interval": _interval(row["measured"]["interval"]),
                    "reproduced": WORDS[row["measured"]["reproduced"]],
                }
            )
            title = ""  # on the first row alone
    return pd.DataFrame(rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def errors_table(results: Revision) -> pd.DataFrame:
    rows = []
    for variant in read(results, "metrics/summary.json"):
        metrics = read(results, f"metrics/variants/{variant}-errors.json")
        resemblance, rare, overlap = (metrics[reason] for reason in ("resemblance", "rare_style", "overlap"))
        pair = overlap["pairs"][0]
        shares = [resemblance["groups"][group]["share"] for group in GROUPS]
        quartiles = [rare["groups"][group]["distance_quartiles"] for group in GROUPS]
        rows.append(
            {
                "variant": f"`{variant}`",
                "images that all, some, none of the seeds misclassify": " / ".join(
                    f"{metrics['images'][group]:,}" for group in GROUPS
                ),
                "nearest training image is another digit: all, some, none": " / ".join(
                    _percent(share, 1) for share in shares
                ),
                "median distance to the nearest training image of the same digit: all, some, none": " / ".join(
                    "–" if values is None else f"{values[1]:.2f}" for values in quartiles
                ),
                "most confused pair": f"{pair['digits'][0]} and {pair['digits'][1]}, {pair['observed']} times"
                + (f" ({pair['ratio']:.1f} times chance)" if pair["ratio"] else ""),
                "errors in pairs confused above chance": (
                    f"{_percent(overlap['share_of_errors'], 0)} in {_count(overlap['pairs_above_chance'], 'pair')}"
                ),
            }
        )
    return pd.DataFrame(rows)


def disputed_table(results: Revision) -> pd.DataFrame:
    rows = []
    for variant in read(results, "metrics/summary.json"):
        disputed = read(results, f"metrics/variants/{variant}-errors.json")["disputed"]
        rows.append(
            {
                "variant": f"`{variant}`",
                f"errors of a seed among the {disputed['images']} images": f"{disputed['errors']:.1f}",
                "of these, answers that most people give": f"{disputed['people_agree']:.1f}",
                "test accuracy": _accuracy(disputed["accuracy"]),
                "without these images": _accuracy(disputed["accuracy_without"]),
            }
        )
    return pd.DataFrame(rows)


AMOUNT = 6  # digits of an amount


def selective_table(results: Revision) -> pd.DataFrame:
    rows = []
    for variant in read(results, "metrics/summary.json"):
        found = read(results, f"metrics/variants/{variant}.json")["selective"]
        for promise in found["promises"]:
            ensemble, seeds = promise["ensemble"], promise["seeds"]
            answering = [seed for seed in seeds if seed["kept"] is not None]
            rows.append(
                {
                    "variant": f"`{variant}`",
                    "promised": percent(promise["accuracy"], 1),
                    "chosen on": found["chosen_on"],
                    "ensemble: test images answered": percent(ensemble["coverage"], 1),
                    "right": _percent(ensemble["accuracy"]),
                    f"amounts of {AMOUNT} digits read": percent(ensemble["coverage"] ** AMOUNT, 1),
                    "one seed: answered": percent(spread([seed["coverage"] for seed in seeds]).mean, 1),
                    "seeds that keep the promise, of those that answer": (
                        f"{sum(seed['kept'] for seed in answering)} of {len(answering)}"
                        if answering and found["chosen_on"] == "validation"
                        else "–"
                    ),
                }
            )
    return pd.DataFrame(rows)


def stress_table(results: Revision) -> pd.DataFrame:
    found = read(results, "metrics/stress.json")
    variants = read(results, "metrics/summary.json")
    rows = []
    for population in found.values():
        row = {"images": population["title"]}
        for variant in variants:
            measured = population["variants"][variant]
            text = percent(measured["accuracy"]["mean"], 1)
            if measured["interval"] is not None:
                lower, upper = (points(end, 1) for end in measured["interval"])
                text += f" ({lower} to {upper})"
            row[f"`{variant}`"] = f"**{text}**" if measured["outcome"] == "worse" else text
        rows.append(row)
    promised = [percent(found["scikit-learn"]["variants"][variant]["promised"], 1) for variant in variants]
    return pd.DataFrame([{"images": "promised", **dict(zip(list(rows[0])[1:], promised, strict=True))}, *rows])


def reading_table(results: Revision) -> pd.DataFrame:
    found = read(results, "benchmarks/reading.json")
    digits, numbers, seconds = (found[key] for key in ("digits", "numbers", "seconds"))
    return _figures(
        {
            f"answers that are right, {digits['pictures']:,} test images on sheets": percent(digits["accuracy"]),
            "the same on the arrays": percent(digits["accuracy_on_arrays"]),
            f"numbers read whole, {numbers['pictures']:,} numbers": percent(numbers["whole"], 1),
            "numbers read whole, and sure of each digit": percent(numbers["whole_and_sure"], 1),
            "numbers sure of each digit, but wrong": percent(numbers["sure_but_wrong"], 1),
            "start and answer, a photo of 2 megapixels": f"{seconds['one_photo']:.2f} s",
            "each further photo": f"{seconds['each_further_photo']:.2f} s",
        }
    )


def page_table(results: Revision) -> pd.DataFrame:
    found = read(results, "benchmarks/page.json")
    figures = {"size of the page": f"{found['bytes'] / 1e6:.2f} MB"}
    for variant, splits in found["variants"].items():
        test = splits["test"]
        figures[f"largest difference of a probability from Keras, any seed of `{variant}`"] = (
            f"{test['largest_difference']:.6f}, {_count(test['different_answers'], 'different answer')}"
        )
    devices = {"desk": "this machine", "phone": "a processor slowed down four times"}
    for device, text in devices.items():
        delay = found["milliseconds"][device]
        figures[f"from a movement to its answer, {text}: median, 95th percentile"] = (
            f"{delay['median']:.0f} ms, {delay['percentile_95']:.0f} ms"
        )
    return _figures(figures)


def _figures(figures: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"figure": name, "measured": value} for name, value in figures.items())


def speed_table(results: Revision) -> pd.DataFrame:
    section = read(results, "benchmarks/results.json")["epoch"]
    seconds = pd.DataFrame([{name: peer["seconds"] for name, peer in each.items()} for each in section["rounds"]])
    ratios = seconds.div(seconds["digits"], axis="index").median()
    return pd.DataFrame(
        {
            "one epoch of `mlp128`": PEERS[name],
            "seconds": f"{seconds[name].median():.2f}",
            "times as long": f"{ratios[name]:.2g}",
            f"test accuracy after {len(seconds) + 1} epochs": _percent(accuracy),
        }
        for name, accuracy in section["test"].items()
    )


def convolutional_table(results: Revision) -> pd.DataFrame:
    runs = read(results, "benchmarks/results.json")["accuracy"]["runs"]
    seeds = len({run["seed"] for run in runs})
    rows = []
    for variant in dict.fromkeys(run["variant"] for run in runs):
        chosen = [run for run in runs if run["variant"] == variant]
        last = spread([run["accuracies"][-1] for run in chosen])
        rows.append(
            {
                "variant": f"`{variant}`",
                "parameters": f"{chosen[0]['parameters']:,}",
                "epochs": f"{len(chosen[0]['seconds'])}",
                f"test accuracy, {_seeds({seeds})}": percent_spread(last.mean, last.std),
                "seconds of training": f"{median(run['seconds'][-1] for run in chosen):.0f}",
            }
        )
    return pd.DataFrame(rows)


CALIBRATION = "benchmarks/calibration.json"
KINDS = {
    "one seed, McNemar": "one seed, McNemar's exact test",
    "one seed, images alone": "one seed, by the images alone",
    "five seeds": "five seeds",
    "other processor": "five seeds, one side as on a processor without AVX-512",
    "same seeds": "the same five seeds, one side as on a processor without AVX-512",
}


def false_verdicts_table(results: Revision) -> pd.DataFrame:
    found = read(results, CALIBRATION)["false_verdicts"]
    rows = []
    for kind, text in KINDS.items():
        alone, worse = found[kind].get("alone"), found[kind].get("worse")
        rows.append(
            {
                "each side": text,
                "reviews with a false verdict (95 % interval)": _share(found[kind]["any"]),
                "with a false “worse”": "–" if worse is None else percent(worse["share"], 1),
                "each variant alone, at 5 %": (
                    "–"
                    if alone is None
                    else ", ".join(f"`{name}` {percent(each['share'], 1)}" for name, each in alone.items())
                ),
            }
        )
    return pd.DataFrame(rows)


def power_table(results: Revision) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "`mlp64` with": f"{units} units",
            "true difference in points": f"{100 * row['difference']:.2f}",
            "one seed, McNemar": percent(row["better_by_mcnemar"]["share"], 0),
            **{f"{count} seeds": percent(each["share"], 0) for count, each in row["better"].items()},
        }
        for units, row in read(results, CALIBRATION)["power"].items()
    )


def coverage_table(results: Revision) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "variants": pair,
            "true difference in points": f"{100 * row['difference']:.2f}",
            "on the same images": _share(row["same images"]),
            "with other writers": _share(row["other writers"]),
            "with other writers, known to the comparison": _share(row["other writers, known"]),
        }
        for pair, row in read(results, CALIBRATION)["coverage"].items()
    )


def design_effects_table(results: Revision) -> pd.DataFrame:
    found = read(results, CALIBRATION)["design_effects"]
    rows = {f"accuracy of `{name}`": effect for name, effect in found["accuracy"].items()}
    rows |= {f"difference of {pair}": effect for pair, effect in found["difference"].items()}
    return pd.DataFrame({"quantity": name, "design effect": f"{effect:.1f}"} for name, effect in rows.items())


def _share(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{percent(found['share'], 1)} ({percent(low, 1)} to {percent(high, 1)})"


def _percent(share: float | None, places: int = 2) -> str:
    return "–" if share is None else percent(share, places)


TABLES: dict[str, Callable[[Revision], pd.DataFrame]] = {
    "results": results_table,
    "published": published_table,
    "claims": claims_table,
    "experiments": experiments_table,
    "errors": errors_table,
    "disputed": disputed_table,
    "selective": selective_table,
    "stress": stress_table,
    "reading": reading_table,
    "page": page_table,
    "speed": speed_table,
    "convolutional": convolutional_table,
    "false-verdicts": false_verdicts_table,
    "power": power_table,
    "coverage": coverage_table,
    "design-effects": design_effects_table,
}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    """Write the tables, or check them and exit with status 1 if one is stale."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a committed table differs from committed results")
    given = parser.parse_args(arguments)
    try:
        if given.check:
            lines = check(root)
        else:
            lock.check(root)  # results of other code or parameters do not belong into the documentation
            lines = write(root)
    except UserError as error:
        sys.exit(f"tables: {error}")
    if given.check and lines:
        sys.exit("\n".join(lines))
    print("\n".join(lines) if lines else "all tables match the results")


if __name__ == "__main__":
    main()
