"""`digits page` in a browser, with the models of the template."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, sync_playwright
from playwright.sync_api import Page as Tab
from support import IMAGES, call, wait_until

from digits.core.artifacts import read_arrays
from digits.data.form import to_mnist_form
from digits.inference import trained

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="install chromium to test the page"),
    pytest.mark.timeout(240),
    pytest.mark.slow(25),
    pytest.mark.xdist_group("page"),
]

Floats = NDArray[np.float64]
SEVEN = ((0.25, 0.2), (0.75, 0.2), (0.45, 0.85))  # the corners of a 7, as shares of the drawing area


@pytest.fixture(scope="module")
def printed(clone: Path) -> str:
    """What `digits page` prints; its page is in the clone."""
    return call(clone, "page")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser, clone: Path, printed: str) -> Iterator[Tab]:
    """The page, ready for use.

    After the test, it must have requested nothing but its own file, and reported nothing.
    """
    url = (clone / "page/index.html").as_uri()
    requests: list[str] = []
    reports: list[str] = []
    tab = browser.new_page(has_touch=True)
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: reports.append(message.text))  # violations of the policy, too
    tab.on("pageerror", lambda error: reports.append(str(error)))
    tab.goto(url)
    tab.evaluate("ready")
    yield tab
    tab.close()
    assert reports == []
    assert {each for each in requests if not each.startswith(("blob:", "data:"))} == {url}


def wait_for(tab: Tab, condition: str) -> None:
    """Wait for a condition in JavaScript. `wait_for_function` repeats it by `eval`, which the page's policy forbids."""
    wait_until(lambda: tab.evaluate(condition), condition, 30)


def canvas(tab: Tab, name: str) -> IMAGES:
    """Return a canvas as it is shown, (height, width, 4)."""
    url: str = tab.evaluate("(name) => byId(name).toDataURL()", name)
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


def seen(tab: Tab) -> IMAGES:
    """Return the image that the model sees."""
    return canvas(tab, "seen")[..., 0]


def ink(tab: Tab) -> Floats:
    """Return the ink on the drawing area."""
    return canvas(tab, "drawing")[..., 3] / 255


def shares(tab: Tab) -> Floats:
    """Return the ten probabilities that the bars show."""
    return np.array([float(text.split()[0]) / 100 for text in tab.locator("#bars .percent").all_inner_texts()])


def point(tab: Tab, x: float, y: float) -> tuple[float, float]:
    box = tab.locator("#drawing").bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def draw(tab: Tab, *corners: tuple[float, float]) -> None:
    tab.mouse.move(*point(tab, *corners[0]))
    tab.mouse.down()
    for corner in corners[1:]:
        tab.mouse.move(*point(tab, *corner), steps=5)
    tab.mouse.up()


def is_empty(tab: Tab) -> bool:
    return not ink(tab).any() and not seen(tab).any() and tab.locator("#bars .percent").first.inner_text() == ""


def choose(tab: Tab, variant: str) -> None:
    tab.locator(f"#variants label:has([value={variant}])").click()


def png(picture: IMAGES) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_command_prints_size_and_differences(printed: str, clone: Path) -> None:
    first, *others = printed.splitlines()
    assert first == f"written: page/index.html, {(clone / 'page/index.html').stat().st_size:,} bytes"
    assert [line.partition(":")[0] for line in others] == ["mlp64", "cnn"]
    assert all("probabilities differ by " in line for line in others)


@pytest.mark.parametrize("variant", ["mlp64", "cnn"])
def test_the_page_answers_as_keras_does(tab: Tab, clone: Path, variant: str) -> None:
    images = read_arrays(clone / "data/processed/test.npz")["images"]
    keras = read_arrays(clone / f"data/predictions/{variant}.npz")["probabilities"]
    script = """([name, text]) => {
        const levels = Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
        const starts = Array.from({ length: levels.length / 784 }, (_, image) => 784 * image);
        return starts.map((start) => answer(networks.get(name), levels.subarray(start, start + 784)));
    }"""
    answers = tab.evaluate(script, [variant, base64.b64encode(images.tobytes()).decode()])
    seeds = np.array([each["seeds"] for each in answers]).transpose(1, 0, 2)
    assert np.abs(seeds - keras).max() < 1e-3 + 1e-5  # of the rounding, and of NumPy
    assert (seeds.argmax(axis=2) == keras.argmax(axis=2)).all()
    mean = keras.mean(axis=0)
    assert np.abs(np.array([each["mean"] for each in answers]) - mean).max() < 1e-3
    assert [each["digit"] for each in answers] == mean.argmax(axis=1).tolist()


def form_in_browser(tab: Tab, inks: list[Floats]) -> IMAGES:
    given = [[each.ravel().tolist(), *each.shape] for each in inks]
    script = "(inks) => inks.map(([ink, height, width]) => [...toMnistForm(ink, height, width)])"
    return np.array(tab.evaluate(script, given), np.uint8).reshape(-1, 28, 28)


def test_the_form_is_that_of_python(tab: Tab, digits: tuple[IMAGES, IMAGES]) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 60, (20, 2))
    noise = [random.random(size) * (random.random(size) > random.random()) for size in sizes]
    inks = [*(image / 255 for image in digits[0][:20]), *noise, np.zeros((5, 5)), np.ones((1, 1))]
    found, expected = form_in_browser(tab, inks), np.stack([to_mnist_form(each) for each in inks])
    # The sums are taken in another order, which can move a level between two integers.
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 1e-4
    # The centre of mass of symmetric ink can be between two pixels, whatever the rounding of the sums.
    inks = [np.ones((height, width)) for height in (1, 20, 33, 75, 82) for width in (2, 24, 26, 49, 55, 76)]
    assert (form_in_browser(tab, inks) == np.stack([to_mnist_form(each) for each in inks])).all()


def test_a_stroke_of_the_mouse_is_answered_while_it_is_drawn(tab: Tab, clone: Path) -> None:
    assert is_empty(tab)
    tab.mouse.move(*point(tab, *SEVEN[0]))
    tab.mouse.down()
    tab.mouse.move(*point(tab, *SEVEN[1]), steps=5)
    wait_for(tab, "byId('answer').textContent !== '–'")
    half = shares(tab)
    tab.mouse.move(*point(tab, *SEVEN[2]), steps=5)
    tab.mouse.up()
    assert (shares(tab) != half).any()
    assert shares(tab).sum() == pytest.approx(1, abs=0.001)  # each is rounded down
    assert (seen(tab) == to_mnist_form(ink(tab))).all()
    seeds = trained.load(clone).ensemble.probabilities(seen(tab)[np.newaxis])[:, 0]
    assert shares(tab) == pytest.approx(seeds.mean(axis=0), abs=1.1e-3)  # the rounding, and that of the text
    dots: list[list[float]] = tab.evaluate(
        "bars.map(({ dots }) => dots.map((dot) => parseFloat(dot.style.left) / 100))"
    )
    assert np.abs(np.array(dots).T - seeds).max() < 1e-3


def test_a_phone_draws_with_a_finger_and_shows_everything_without_scrolling(tab: Tab) -> None:
    tab.set_viewport_size({"width": 380, "height": 500})
    touch = tab.context.new_cdp_session(tab)
    for kind, corner in zip(("touchStart", "touchMove", "touchMove"), SEVEN, strict=True):
        x, y = point(tab, *corner)
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_for(tab, "stroke === null && items.length === 1")
    assert (seen(tab) == to_mnist_form(ink(tab))).all()
    assert seen(tab).any()
    assert tab.evaluate("scrollY") == 0
    tab.set_viewport_size({"width": 380, "height": 780})
    assert tab.evaluate("document.documentElement.scrollWidth") == 380
    last = tab.locator("#bars li").last.bounding_box()
    assert last
    assert last["y"] + last["height"] < 780


def test_steps_are_taken_back_by_button_and_by_key(tab: Tab) -> None:
    undo, clear = (tab.get_by_role("button", name=name) for name in ("Undo", "Clear"))
    assert (undo.is_disabled(), clear.is_disabled()) == (True, True)
    draw(tab, SEVEN[0], SEVEN[1])
    one = ink(tab)
    draw(tab, SEVEN[1], SEVEN[2])
    undo.click()
    assert (ink(tab) == one).all()
    clear.click()
    assert is_empty(tab)
    for key in ("Delete", "Escape"):
        tab.keyboard.press("Control+z")
        assert not is_empty(tab)
        tab.keyboard.press(key)
        assert is_empty(tab)
    for _ in range(5):
        tab.keyboard.press("Control+z")
    assert is_empty(tab)
    assert (undo.is_disabled(), clear.is_disabled()) == (True, True)


def test_every_variant_answers_and_one_is_explained(tab: Tab, clone: Path) -> None:
    draw(tab, *SEVEN)
    says = tab.locator("#variants .says").all_inner_texts()
    for variant, said in zip(("mlp64", "cnn"), says, strict=True):
        choose(tab, variant)
        mean = trained.load(clone, variant).ensemble.probabilities(seen(tab)[np.newaxis]).mean(axis=0)[0]
        assert shares(tab) == pytest.approx(mean, abs=1.1e-3)
        assert said.rstrip("?") == str(mean.argmax())
        assert tab.locator("[data-variant]:visible b").all_inner_texts() == [variant]
        assert tab.locator("#missed-name").inner_text() == variant


def test_an_answer_below_the_threshold_is_a_guess(tab: Tab) -> None:
    draw(tab, *SEVEN)
    answer, detail, says = (tab.locator(each) for each in ("#answer", "#detail", "label:has(:checked) .says"))
    best = shares(tab).argmax()
    for threshold, is_sure in ((0, True), (1.1, False), (None, False)):
        tab.evaluate("(threshold) => { variant.threshold = threshold; choose(); }", threshold)
        assert answer.inner_text() == (str(best) if is_sure else "Not sure")
        assert detail.inner_text().startswith("Probability" if is_sure else f"It would guess {best}, with ")
        assert says.inner_text() == (str(best) if is_sure else f"{best}?")
        assert tab.locator("#spoken").inner_text() == f"{answer.inner_text()}. {detail.inner_text()}"


def give_by_file(tab: Tab, content: bytes) -> None:
    tab.locator("#file").set_input_files(FilePayload(name="digit.png", mimeType="image/png", buffer=content))


def give_by_event(tab: Tab, content: bytes, kind: str, constructor: str, key: str) -> None:
    script = """([content, kind, constructor, key]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
        const event = new window[constructor](kind, { [key]: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event);
    }"""
    tab.evaluate(script, [base64.b64encode(content).decode(), kind, constructor, key])


@pytest.mark.parametrize(
    ("event", "ink", "paper"),
    [
        ((), 40, 230),
        (("paste", "ClipboardEvent", "clipboardData"), 215, 25),
        (("drop", "DragEvent", "dataTransfer"), 40, 230),
    ],
)
def test_a_picture_is_read_from_a_file_the_clipboard_and_a_drop(
    tab: Tab, event: tuple[str, ...], ink: int, paper: int
) -> None:
    one = np.full((80, 60), paper, np.uint8)
    one[15:65, 27:35] = ink
    if event:
        give_by_event(tab, png(one), *event)
    else:
        give_by_file(tab, png(one))
    wait_for(tab, "items.length === 1")
    image = seen(tab)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (len(rows), len(columns)) == (20, 3)
    assert image[rows[0] + 2 : rows[-1] - 1, columns[1]].min() > 240


def test_a_file_without_a_digit_is_refused_in_words(tab: Tab) -> None:
    give_by_file(tab, png(np.full((40, 40), 200, np.uint8)))
    tab.get_by_text("There is no digit on this picture.").first.wait_for()
    give_by_file(tab, b"no picture")
    tab.get_by_text("This browser cannot open digit.png as a picture.").first.wait_for()
    assert is_empty(tab)


def test_a_test_image_goes_to_the_model_as_it_is(tab: Tab, clone: Path) -> None:
    test = read_arrays(clone / "data/processed/test.npz")
    choose(tab, "cnn")
    missed = tab.evaluate("content.missed.cnn")
    wrong = read_arrays(clone / "data/predictions/cnn.npz")["probabilities"].argmax(axis=2) != test["labels"]
    assert [image["wrong"] for image in missed] == sorted(wrong.sum(axis=0), reverse=True)[: len(missed)]
    tab.locator("#missed button").first.click()
    assert (seen(tab) == test["images"][missed[0]["index"]]).all()
    assert f"The label is {missed[0]['label']}." in tab.locator("#detail").inner_text()
    draw(tab, (0.1, 0.1), (0.2, 0.1))
    # As above: the levels of this data set's images are few, so that sums often lie between two integers.
    assert np.abs(seen(tab).astype(int) - to_mnist_form(ink(tab))).max() <= 1
    assert "label" not in tab.locator("#detail").inner_text()


def test_the_keyboard_alone_is_enough(tab: Tab) -> None:
    def focused() -> Locator:
        return tab.locator(":focus")

    tab.keyboard.press("Tab")
    assert focused().get_attribute("value") == "mlp64" or focused().get_attribute("value") == "cnn"
    before = focused().get_attribute("value")
    tab.keyboard.press("ArrowLeft")
    assert focused().get_attribute("value") != before
    assert tab.evaluate("variant.name") == focused().get_attribute("value")
    tab.keyboard.press("Tab")  # the buttons that can do nothing are left out
    assert focused().get_attribute("id") == "file"
    tab.keyboard.press("Tab")
    assert focused().get_attribute("aria-label").startswith("Open test image ")  # type: ignore[union-attr]
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    assert "The label is " in tab.locator("#spoken").inner_text()
    assert tab.get_by_role("img", name="Drawing area, with a digit").is_visible()
    tab.keyboard.press("Escape")
    assert tab.locator("#spoken").inner_text() == "The drawing area is empty."


def test_text_has_contrast_on_light_and_on_dark_ground(tab: Tab) -> None:
    texts = ["#answer", "#detail", ".legend", "#hint", ".percent", ".button", "#missed span", ".says"]
    script = """(texts) => texts.map((selector) => {
        const element = document.querySelector(selector);
        let ground = element;
        while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
    })"""

    def luminance(color: str) -> float:
        levels = np.array(json.loads(f"[{color.removeprefix('rgb(').removesuffix(')')}]")) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    grounds = []
    draw(tab, *SEVEN)
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        for pair in tab.evaluate(script, texts):
            low, high = sorted(map(luminance, pair))
            assert (high + 0.05) / (low + 0.05) >= 4.5, pair  # level AA of the Web Content Accessibility Guidelines
        grounds.append(luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert grounds[0] > 0.9
    assert grounds[1] < 0.1


def test_a_browser_that_cannot_unpack_the_models_is_told(tab: Tab) -> None:
    tab.add_init_script("delete window.DecompressionStream")
    tab.reload()
    tab.evaluate("ready")
    assert tab.locator("#detail").inner_text().startswith("This browser is too old to unpack the models")
    draw(tab, *SEVEN)
