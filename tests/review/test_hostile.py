"""A review that shows values from a hostile revision: names, parameters, notes and paths with markup of any kind."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from digits.evaluation import comparison
from digits.evaluation.comparison import Mistake, Result
from digits.review import render
from digits.review.report import Chart, Note, Review, Sides
from digits.versioning.revisions import Revision

HTML = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</code></summary></details>", "<!--", "&lt;b&gt;"]
LINKS = ["![](http://example.org/x.png)", "[a](javascript:alert(1))", "<http://example.org>", "[a]: http://example.org"]
BARE_LINKS = ["http://example.org/", "www.example.org", "someone@example.org", "@everyone", "@org/team", "#1", "GH-1"]
LINES = ["\n# heading", "\r\n\r\n| `mlp64` | **better** |\n", "\n```\n", "- [ ] a", "> a", "---", "===", "1. a", "~~~"]
SPANS = ["`", "``", "|", "\\|", "\\", "**", "_a_", "~~a~~", "$x$", ":tada:", "[^1]", "{{ 7 * 7 }}", "{% raw %}"]
CHARACTERS = ["\0", "\x1b[2J", "\x85", "\u2028", "\u202e", "\u200b", "\ud800", "日本", "\N{NO-BREAK SPACE}", "a" * 400]
MARKUP = [*HTML, *LINKS, *BARE_LINKS, *LINES, *SPANS, *CHARACTERS]
HOSTILE = st.lists(st.sampled_from(MARKUP) | st.text(st.characters(), max_size=8), min_size=1, max_size=4).map("".join)
VALUES = HOSTILE | st.lists(HOSTILE, max_size=2) | st.none() | st.integers() | st.floats()


class Elements(HTMLParser):
    """The elements and attributes of HTML, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(" ".join([tag, *(name for name, _ in attrs)]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def review(texts: list[str], values: list[object]) -> Review:
    """Return a review with a text in each place that a revision can fill, and with values of parameters."""
    base, head, variant, note, key, path, stage, reason = texts
    base, head = f"{base} 1", f"{head} 2"  # two sides with one name have no charts
    few, many = np.zeros(100, np.int64), np.zeros(100, np.int64)
    few[:2], many[:40] = 2, 2
    sides = Result([2, 2], few), Result([40, 40], many)
    rows = {"variant": variant, "split": "test"}
    sizes = [(base, 0.9, 1), (base, 0.9, 2), (head, 0.8, 1), (head, 0.8, 2)]
    data = [{**rows, "rev": name, "accuracy": accuracy, "epoch": epoch} for name, accuracy, epoch in sizes]
    mistakes = {index: Mistake(index, 1, 2, 7, 0.6, 0.3) for index in range(40)}
    return Review(
        Revision(Path(), base, None),
        Revision(Path(), head, None),
        notes=[Note(note, blocks=True), Note(note)],
        stale={head: [reason]},
        verdicts=comparison.compare({variant: sides}),
        mistakes={variant: Sides({index: mistakes[index] for index in range(2)}, mistakes)},
        probabilities={variant: Sides(None, None)},
        parameters={key: Sides(*values)},
        metrics={key: Sides(*values)},
        data={key: Sides(*values)},
        code={stage: [path]},
        charts=[Chart("accuracy", key, {"data": {"values": data}}, changed=True)],
        pictures={path: Sides(b"png", None)},
    )


TEXTS = st.lists(HOSTILE, min_size=8, max_size=8)
PAIRS = st.lists(VALUES, min_size=2, max_size=2)
TAME = review(["base", "head", "mlp64", "A note.", "key", "src/a.py", "train", "train: changed"], ["1", "2"])


def rendered(text: str) -> str:
    """Return the HTML of Markdown with the extensions of GitHub."""
    parser = MarkdownIt("gfm-like")
    assert parser.linkify is not None
    parser.linkify.set({"fuzzy_link": False})  # GitHub makes no link of a bare name.py
    return str(parser.render(text))


@given(TEXTS, PAIRS)
def test_hostile_values_add_no_element_mention_or_link_to_the_markdown(texts: list[str], values: list[object]) -> None:
    text = render.markdown(review(texts, values))
    text.encode("utf-8")
    found, expected = Elements(rendered(text)), Elements(rendered(render.markdown(TAME)))
    assert found.found == expected.found  # which includes every row and cell of every table
    assert found.text.count("\n") == expected.text.count("\n")
    # GitHub searches the text for these after it has rendered the Markdown.
    assert not re.search(r"@\w|#\w|\w://|www\.|:\w+:|\bGH-", found.text, re.IGNORECASE)


@given(TEXTS, PAIRS)
def test_hostile_values_are_one_printable_line_each_in_a_terminal(texts: list[str], values: list[object]) -> None:
    text = render.summary(review(texts, values))
    assert text.count("\n") == render.summary(TAME).count("\n")
    assert text.replace("\n", "").replace("\N{NO-BREAK SPACE}", "").isprintable()
    text.encode("utf-8")


@given(TEXTS, PAIRS)
def test_hostile_values_add_no_element_to_the_page(texts: list[str], values: list[object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_svg", lambda chart: "chart")
        page, expected = (render.html(side, None) for side in (review(texts, values), TAME))
    page.encode("utf-8")
    assert Elements(page).found == Elements(expected).found


@pytest.mark.parametrize("value", ["models.mlp64.units", "[64]", "a_b", "1 < 2 & 3", "`code`", "50 %", "a|b", "é 日本"])
def test_a_value_is_shown_as_it_is(value: str) -> None:
    table = Elements(rendered(f"| a |\n| - |\n| {render.escape_markdown(value)} |\n"))
    assert table.text.split("\n\n\n")[-1].strip() == value or value in table.text
    assert len([tag for tag in table.found if tag.startswith("td")]) == 1
