"""Measure how `digits page` agrees with Keras, and how fast it answers, and write page.json beside this file.

    python benchmarks/page.py
    python benchmarks/page.py --short      # a few images, printed and not written

It needs trained models and `data/processed` (`make repro`), and Chromium or Chrome on the PATH. It takes about ten
minutes on two cores. Each variant is measured on the test images, with which the page is built, and on the validation
images, with which it is not. A delay is the time from a movement of the pointer to the new answer, with the wait for
the next frame; a phone is simulated by a processor that is four times slower.
"""

import base64
import shutil
from typing import Any

import numpy as np
from common import BENCHMARKS, PARAMS, ROOT, command, load
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from digits.core import paths
from digits.core.artifacts import read_arrays
from digits.core.errors import UserError
from digits.inference.page import page
from digits.modeling import networks

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHUNK = 2500  # images that are sent to the browser at a time
SHORT = 50  # images
SLOWDOWN = {"desk": 1, "phone": 4}  # of the processor
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

Images = NDArray[np.uint8]


def agreement(tab: Page, variant: str, images: Images) -> dict[str, Any]:
    """Return how the probabilities of each seed by the page differ from those by Keras."""
    parts = [base64.b64encode(part.tobytes()).decode() for part in np.split(images, range(CHUNK, len(images), CHUNK))]
    by_page = np.concatenate([tab.evaluate(ANSWER, [variant, part]) for part in parts]).swapaxes(0, 1)
    files = paths.VariantFiles(variant)
    model, weights = networks.load(ROOT / files.model), read_arrays(ROOT / files.weights)
    by_keras = []
    for seed in range(len(weights["seeds"])):
        networks.set_weights(model, {path: each[seed, -1] for path, each in weights.items() if "/" in path})
        by_keras.append(model.predict(images, batch_size=1000, verbose=0))
    return {
        "images": len(images),
        "largest_difference": float(np.abs(by_page - by_keras).max()),
        "different_answers": int((by_page.argmax(axis=2) != np.argmax(by_keras, axis=2)).sum()),
    }


def milliseconds(tab: Page, slowdown: int) -> dict[str, Any]:
    """Return the delays of the answers while a digit is drawn."""
    box = tab.locator("#drawing").bounding_box()
    if box is None:
        raise ValueError("the page always has a drawing area")
    tab.context.new_cdp_session(tab).send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    tab.evaluate(TIME)
    first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in CORNERS]
    tab.mouse.move(*first)
    tab.mouse.down()
    for place in others:
        tab.mouse.move(*place, steps=STEPS)
    tab.mouse.up()
    delays = tab.evaluate("delays")
    median, high = np.percentile(delays, [50, 95])
    return {"answers": len(delays), "median": float(median), "percentile_95": float(high)}


def results(*, short: bool) -> dict[str, Any]:
    """Measure everything."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"no browser is on the PATH: install one of {', '.join(BROWSERS)}")
    size = page.write(ROOT).size
    images = {split: load(split)[0][: SHORT if short else None] for split in ("test", "validation")}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--headless", "--no-sandbox"])

        def open_page() -> Page:
            tab = chromium.new_page()
            tab.goto((ROOT / paths.PAGE).as_uri())
            tab.evaluate("ready")
            return tab

        tab = open_page()
        return {
            "bytes": size,
            "variants": {
                variant: {split: agreement(tab, variant, each) for split, each in images.items()}
                for variant in PARAMS.variants
            },
            "milliseconds": {name: milliseconds(open_page(), slowdown) for name, slowdown in SLOWDOWN.items()},
            "browser": chromium.version,
        }


if __name__ == "__main__":
    command(__doc__, results, BENCHMARKS / "page.json")
