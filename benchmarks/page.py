"""Measure how `digits page` agrees with Keras, and how fast it answers, and write page.json beside this file.

    python benchmarks/page.py

It needs trained models and `data/processed` (`make repro`), and Chromium or Chrome on the PATH. It takes about ten
minutes on two cores. Each variant is measured on the test images, with which the page is built, and on the validation
images, with which it is not. A delay is the time from a movement of the pointer to the new answer, with the wait for
the next frame; a phone is simulated by a processor that is four times slower.
"""

import argparse
import base64
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from common import ROOT, load
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright
from run import commit, machine, versions

from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_json
from digits.core.errors import UserError
from digits.inference.page import page
from digits.modeling import networks

RESULTS = ROOT / "benchmarks/page.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHUNK = 2500  # images that are sent to the browser at a time
SLOWER = 4  # the processor of a phone
CORNERS = ((0.25, 0.2), (0.75, 0.2), (0.45, 0.85))  # of a 7, as shares of the drawing area
STEPS = 100  # movements of the pointer from corner to corner

ANSWER = """([name, text]) => {
    const images = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const starts = Array.from({ length: images.length / 784 }, (_, image) => 784 * image);
    return starts.map((start) => answer(networks.get(name), images.subarray(start, start + 784)).seeds);
}"""
TIME = """() => {
    window.delays = [];
    let start = null;
    drawing.addEventListener("pointermove", (event) => { start ??= event.timeStamp; });
    const original = update;
    update = () => {
        original();
        if (start !== null) delays.push(performance.now() - start);
        start = null;
    };
}"""

Floats = NDArray[np.floating]
Images = NDArray[np.uint8]


def by_keras(variant: str, images: Images) -> Floats:
    """Return the probabilities of each seed by Keras, (seeds, n, 10)."""
    files = paths.VariantFiles(variant)
    model = networks.load(ROOT / files.model)
    weights = read_arrays(ROOT / files.weights)
    found = []
    for seed in range(len(weights["seeds"])):
        networks.set_weights(model, {path: each[seed, -1] for path, each in weights.items() if "/" in path})
        found.append(model.predict(images, batch_size=1000, verbose=0))
    return np.stack(found)


def by_page(tab: Page, variant: str, images: Images) -> Floats:
    """Return the probabilities of each seed by the page, (seeds, n, 10)."""
    parts = []
    for start in range(0, len(images), CHUNK):
        text = base64.b64encode(images[start : start + CHUNK].tobytes()).decode()
        parts.append(np.array(tab.evaluate(ANSWER, [variant, text])))
    return np.concatenate(parts).swapaxes(0, 1)


def agreement(page_says: Floats, keras_says: Floats) -> dict[str, Any]:
    """Return how the probabilities of each seed, and of the ensemble, differ."""
    ensembles = page_says.mean(axis=0), keras_says.mean(axis=0, dtype=np.float64)
    return {
        "images": page_says.shape[1],
        "largest_difference": float(np.abs(page_says - keras_says).max()),
        "largest_difference_of_ensemble": float(np.abs(ensembles[0] - ensembles[1]).max()),
        "different_answers": int((page_says.argmax(axis=2) != keras_says.argmax(axis=2)).sum()),
        "different_answers_of_ensemble": int((ensembles[0].argmax(axis=1) != ensembles[1].argmax(axis=1)).sum()),
    }


def milliseconds(tab: Page, slower: int) -> dict[str, Any]:
    """Return the delays of the answers while a digit is drawn."""
    box = tab.locator("#drawing").bounding_box()
    if box is None:
        raise ValueError("the page always has a drawing area")
    tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    tab.evaluate(TIME)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in CORNERS]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=STEPS)
    tab.mouse.up()
    delays: Sequence[float] = tab.evaluate("delays")
    median, high = np.percentile(delays, [50, 95])
    return {"answers": len(delays), "median": float(median), "percentile_95": float(high)}


def results(browser: str) -> dict[str, Any]:
    """Measure everything."""
    built = page.write(ROOT)
    images = {split: load(split)[0] for split in ("test", "validation")}
    address = (ROOT / paths.PAGE).as_uri()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--headless", "--no-sandbox"])
        tab = chromium.new_page()
        tab.goto(address)
        tab.evaluate("ready")
        variants = {}
        for variant in params.load(ROOT / paths.PARAMS).variants:
            sides = {split: (by_page(tab, variant, each), by_keras(variant, each)) for split, each in images.items()}
            variants[variant] = {split: agreement(*side) for split, side in sides.items()}
        delays = {}
        for name, slower in {"desk": 1, "phone": SLOWER}.items():
            fresh = chromium.new_page()
            fresh.goto(address)
            fresh.evaluate("ready")
            delays[name] = milliseconds(fresh, slower)
        version = chromium.version
        chromium.close()
    return {"bytes": built.size, "variants": variants, "milliseconds": delays, "browser": version}


def main() -> None:
    """Measure, print and write the results."""
    argparse.ArgumentParser(description=str(__doc__).splitlines()[0]).parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"none of {', '.join(BROWSERS)} is on the PATH: install Chromium")
    found = results(browser)
    found["provenance"] = {"commit": commit(), "machine": machine(), "versions": versions()}
    write_json(RESULTS, found)
    print(found)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"page: {error}")
