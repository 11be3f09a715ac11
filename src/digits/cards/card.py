"""The model card of a variant: what it is for, how it was trained, its results, and where it fails."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from digits.core.formatting import percent, percent_spread, points
from digits.evaluation import validation

HARDEST = 3  # digits to name, and pairs of digits


def render(
    name: str,
    protocol: str,
    dataset: Mapping[str, Any],
    metrics: Mapping[str, Any],
    errors: Mapping[str, Any],
    stress: Mapping[str, Any],
) -> str:
    """Return a model card in Markdown, with the metadata of Hugging Face's cards.

    Source of the form: https://huggingface.co/docs/hub/model-cards.

    Args:
        name: of the variant.
        protocol: how it was trained, as `replication.protocols.describe` says it.
        dataset: the content of metrics/dataset.json.
        metrics: that of metrics/variants/<variant>.json.
        errors: that of metrics/variants/<variant>-errors.json.
        stress: that of metrics/stress.json.
    """
    held_out = validation.held_out(metrics)
    environment = Environment(
        loader=PackageLoader("digits.cards", "."),
        undefined=StrictUndefined,
        autoescape=select_autoescape(),
        keep_trailing_newline=True,
    )
    environment.globals |= {"percent": percent, "spread": _spread, "threshold": _threshold}
    return environment.get_template("card.md.j2").render(
        metrics,
        name=name,
        protocol=protocol,
        images={split: content["images"] for split, content in dataset.items()},
        held_out=held_out,
        of_seeds="1 seed" if len(metrics["seeds"]) == 1 else f"{len(metrics['seeds'])} seeds",
        disputed=errors["disputed"],
        reached=lambda target: _reached(target, held_out=held_out),
        hardest=_hardest(metrics["per_class"]),
        confusions=_confusions(errors["overlap"]["pairs"]),
        evaluation_sets=[_evaluation_set(each, each["variants"][name]) for each in stress.values()],
    )


def _spread(values: Mapping[str, Any]) -> str:
    return percent_spread(values["mean"], values["std"])


def _threshold(threshold: float | None) -> str:
    return "never confident enough" if threshold is None else f"{threshold:.6f}"


def _reached(target: Mapping[str, Any], *, held_out: bool) -> str:
    """Return how many seeds reach a target accuracy, of those that answer at all."""
    answering = [seed for seed in target["seeds"] if seed["reached"] is not None]
    if not answering:
        return "no seed answers"
    if not held_out:
        return f"{len(answering)} of {len(target['seeds'])} answer"
    return f"{sum(seed['reached'] for seed in answering)} of {len(answering)}"


def _hardest(per_class: Mapping[str, Mapping[str, float]]) -> str:
    worst = sorted(per_class, key=lambda digit: per_class[digit]["recall"])[:HARDEST]
    return _list([f"{digit} ({percent(per_class[digit]['recall'])})" for digit in worst])


def _confusions(pairs: list[dict[str, Any]]) -> str:
    return _list(["{} and {} ({} images)".format(*pair["digits"], pair["observed"]) for pair in pairs[:HARDEST]])


def _list(items: list[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _evaluation_set(content: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    if row["interval"] is None:
        return {"title": content["title"], **row, "difference": "", "outcome": ""}
    lower, upper = (points(end, 1) for end in row["interval"])
    difference = f"{points(row['difference'], 1)} ({lower} to {upper})"
    return {"title": content["title"], **row, "difference": difference}
