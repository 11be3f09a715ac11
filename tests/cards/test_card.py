import json
from typing import Any

import pytest
import yaml
from support import committed

from digits.cards import card

VARIANTS = ("softmax", "mlp64", "mlp128", "cnn")


def content(name: str) -> Any:
    return json.loads(committed(f"metrics/{name}.json"))


def render(name: str, **changes: Any) -> str:
    metrics = content(f"variants/{name}") | changes
    return card.render(
        name, "sgd 0.1, all of it", content("dataset"), metrics, content(f"variants/{name}-errors"), content("stress")
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_metadata_have_the_results(name: str) -> None:
    _, header, _ = render(name).split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert (metadata["license"], metadata["library_name"]) == ("mit", "keras")
    (model,) = metadata["model-index"]
    values = [metric["value"] for metric in model["results"][0]["metrics"]]
    test = content(f"variants/{name}")["test"]
    assert values == pytest.approx([test["accuracy"]["mean"], test["ensemble"]["accuracy"]], abs=5e-5)


def test_the_page_names_the_protocol_the_thresholds_and_every_evaluation_set() -> None:
    text = render("cnn")
    assert "Sgd 0.1, all of it." in text
    threshold = content("variants/cnn")["selective"]["targets"][-1]["ensemble"]["threshold"]
    assert f"| 99.9 % | {threshold:.6f} |" in text
    for each in content("stress").values():
        assert f"| {each['title']} |" in text
    assert "15000 validation" not in text
    assert "The 15,000 validation images choose it" in text


def test_a_variant_without_validation_images_says_so() -> None:
    text = render("mlp128")
    assert "| no image held out |" in text
    assert "the test images choose it, and they cannot test it" in text


def test_a_target_that_no_confidence_reaches_is_named() -> None:
    assert "| 99.9 % | never confident enough | 0.0 % |  | no seed answers |" in render("softmax")


def test_a_single_seed_is_no_plural() -> None:
    assert "trained with\n1 seed;" in render("cnn", seeds=[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_the_committed_card_agrees_with_the_committed_metrics(name: str) -> None:
    lines = committed(f"cards/{name}.md").splitlines()
    missing = [line for line in render(name).splitlines() if line not in lines]
    assert missing == ["Sgd 0.1, all of it."]
