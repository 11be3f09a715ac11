"""The builder of the page, without a browser."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import IMAGES

from digits.core.errors import UserError
from digits.inference import trained
from digits.inference.ensemble import Convolution, Dense, Ensemble, Layer, Pool, Scale
from digits.inference.page import page, weights
from digits.inference.page.page import Page
from digits.inference.trained import Trained


def network(seed: int) -> list[Layer]:
    """Return a network with each kind of layer, and with random weights."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return random.normal(0, 0.2, shape).astype(np.float32)

    return [
        Scale(1 / 255),
        Convolution(normal(5, 5, 1, 4), normal(4), stride=2),
        Pool(2),
        Dense(normal(144, 8), normal(8), relu=True),
        Dense(normal(8, 10), normal(10), relu=False),
    ]


def variant(name: str = "cnn", *, held_out: bool = True, threshold: float | None = 0.98) -> Trained:
    accuracy = {"accuracy": {"mean": 0.9933, "std": 0.0004}, "ensemble": {"accuracy": 0.9948}}
    metrics = {
        "test": accuracy,
        "validation": accuracy if held_out else None,
        "selective": {"chosen_on": "validation" if held_out else "test"},
    }
    return Trained(Ensemble(name, [3, 7], [network(3), network(7)]), threshold, metrics)


def variants() -> list[Trained]:
    return [variant("mlp", held_out=False, threshold=None), variant()]


@pytest.fixture(scope="module")
def pair(digits: tuple[IMAGES, IMAGES]) -> tuple[IMAGES, IMAGES]:
    return digits[0][:300], digits[1][:300]


@pytest.fixture(scope="module")
def built(pair: tuple[IMAGES, IMAGES]) -> Page:
    return page.build(variants(), *pair)


def sentences(built: Page) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", built.html.partition("<script")[0]).split())


@pytest.mark.parametrize(
    ("tolerance", "bits"),
    [
        (1, 12),  # 11 would change an answer
        (1.5e-5, 13),
        (0, 24),
    ],
)
def test_weights_have_the_fewest_bits_that_keep_the_answers_and_nearly_the_probabilities(
    pair: tuple[IMAGES, IMAGES], monkeypatch: pytest.MonkeyPatch, tolerance: float, bits: int
) -> None:
    monkeypatch.setattr(weights, "TOLERANCE", tolerance)
    original, images = variant().ensemble, pair[0][:50]
    exact = original.probabilities(images)
    rounded, change = weights.round_weights(original, images, exact)
    found = rounded.probabilities(images)
    assert change == np.abs(found - exact).max() <= tolerance
    assert (found.argmax(axis=2) == exact.argmax(axis=2)).all()
    significands, _ = np.frexp(rounded.networks[0][3].kernel)  # type: ignore[union-attr]
    assert min(number for number in weights.BITS if not (np.ldexp(significands, number) % 1).any()) == bits


def test_the_same_models_make_the_same_bytes(built: Page, pair: tuple[IMAGES, IMAGES]) -> None:
    assert page.build(variants(), *pair) == built


def test_the_page_allows_its_own_script_and_style_alone(built: Page) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', built.html)
    assert policy.startswith("default-src 'none'; ")
    for kind, content in {
        "script": re.findall(r"<script>(.+?)</script>", built.html, re.DOTALL),
        "style": re.findall(r"<style>(.+?)</style>", built.html, re.DOTALL),
    }.items():
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert len(content) == 1
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://| style=| on[a-z]+=", built.html.partition("</section>\n<script")[0])


def test_the_page_says_what_its_models_are_and_when_they_are_sure(built: Page) -> None:
    text = sentences(built)
    assert "cnn was trained with 2 seeds on MNIST. One seed reads 99.33 ± 0.04 % of the 300 test images right" in text
    assert "together, by the mean of their probabilities, they read 99.48 %" in text
    assert "It is sure from a probability of 98.0000 % on; its answers to the validation images show" in text
    assert "It is never sure: at no probability are enough of its answers to the test images right" in text
    assert text.count("No image was held out of the training") == 1
    assert re.findall(r'value="(\w+)" disabled checked', built.html) == ["cnn"]  # has validation images


def test_a_gallery_has_the_images_that_most_seeds_miss() -> None:
    labels = np.array([0, 1, 2, 3])
    probabilities = np.zeros((2, 4, 10), np.float32)
    probabilities[0, range(4), [0, 1, 5, 5]] = 1
    probabilities[1, range(4), [0, 5, 5, 5]] = 1
    probabilities[:, 2, 2] = 0.5
    assert page._missed(probabilities, labels) == [
        {"index": 3, "label": 3, "wrong": 2},
        {"index": 2, "label": 2, "wrong": 2},
        {"index": 1, "label": 1, "wrong": 1},
    ]


def test_a_page_that_is_too_large_is_refused(
    built: Page, pair: tuple[IMAGES, IMAGES], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained, "load", lambda root, name: variant(name))
    monkeypatch.setattr(page, "read_arrays", lambda path: dict(zip(("images", "labels"), pair, strict=True)))
    monkeypatch.setattr(page, "build", lambda *_: built)
    monkeypatch.setattr(page, "MAX_BYTES", built.size)
    assert page.write(tmp_path, ["cnn", "mlp"]) == built
    assert (tmp_path / "page/index.html").read_text("utf-8") == built.html
    monkeypatch.setattr(page, "MAX_BYTES", built.size - 1)
    with pytest.raises(UserError, match=r"page/index.html would have [\d,]+ bytes, .+ as in `digits page cnn`"):
        page.write(tmp_path, ["cnn", "mlp"])
