"""Reviews of sides whose errors a test chooses, and whole reviews of an experiment with the small data set."""

import hashlib
import html
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import markupsafe
import numpy as np
import pandas as pd
import pytest
from support import call, edit, run

from digits.core import paths, seeds_wrong
from digits.core.artifacts import write_csv, write_json
from digits.evaluation import comparison
from digits.evaluation.comparison import Mistake
from digits.review import render, report
from digits.review.report import Allowed, Review, Side, Sides
from digits.versioning.repository import LOCK
from digits.versioning.results import VariantResults, read_results, result_files
from digits.versioning.revisions import Revision

IMAGES = 397
FEW = [{*range(20), *range(100, 100 + seed)} for seed in range(5)]  # the images that each of five seeds misclassifies
MANY = [images | set(range(20, 60)) for images in FEW]
CNN = [{7}, {8}]
Errors = Sequence[Collection[int]]


def results(seeds: Errors) -> VariantResults:
    """Return the results of a variant whose seeds misclassify these test images."""
    wrong = Counter(index for images in seeds for index in images)
    mistakes = {index: Mistake(index, index % 10, wrong[index], (index + 1) % 10, 0.6, 0.3) for index in sorted(wrong)}
    return VariantResults(comparison.result([len(images) for images in seeds], wrong, IMAGES), mistakes)


def side(name: str, test: str = "0", params: Mapping[str, Any] | None = None, **errors: Errors) -> Side:
    """Return a side with the errors of each variant; those of `cnn` are the same unless they are given."""
    found = {name: results(seeds) for name, seeds in ({"cnn": CNN} | errors).items()}
    contents: dict[Path, Any] = {
        paths.PARAMS: {"variants": list(found), **(params or {})},
        LOCK: {"stages": {"evaluate@cnn": {"deps": [{"path": str(paths.TEST), "md5": test}]}}},
        paths.DATASET_METRICS: {"test": {"images": IMAGES}},
        paths.SUMMARY: {name: {"accuracy": each.result.accuracy.mean} for name, each in found.items()},
    }
    return Side(Revision(Path(), name, None), contents, IMAGES, results=found)


def judge(base: Side, head: Side, **allowed: Any) -> Review:
    return report.judge(Sides(base, head), Allowed(**allowed))


def compare(base: Errors, head: Errors, **allowed: Any) -> Review:
    return judge(side("main", mlp64=base), side("new", mlp64=head), **allowed)


def notes(review: Review) -> list[str]:
    return [f"{note.effect}: {note.text}" for note in review.notes]


def pages(review: Review) -> tuple[str, str]:
    """Return the page and the Markdown of a review, the latter without its escapes."""
    return render.html(review, None), html.unescape(render.markdown(review)).replace("\N{ZERO WIDTH SPACE}", "")


def cells(text: str, variant: str) -> list[str]:
    """Return the cells of a variant's row in the table of verdicts, without the variant, from the Markdown."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| <code>{variant}</code> |")]
    return [cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in row.strip("|").split("|")][1:]


def numbers(text: str) -> list[float]:
    """Return the numbers in a text, in the order in which they appear."""
    return [float(word) for word in re.findall(r"[-+]?\d+\.?\d*", text.replace("\N{MINUS SIGN}", "-"))]


def captions(page: str) -> list[list[str]]:
    """Return the caption below each image of a page, one text for the image and one for each side."""
    found = re.findall(r"<figcaption>(image .*?)</figcaption>", page, re.DOTALL)
    return [[" ".join(re.sub(r"<.*?>", "", part).split()) for part in caption.split("<br>")] for caption in found]


def test_a_worse_variant_is_shown_with_its_interval_spreads_and_the_smallest_difference_found() -> None:
    review = compare(FEW, MANY)
    printed, (page, text) = render.summary(review), pages(review)
    verdict, difference, base, head, detectable, p_value = cells(text, "mlp64")
    # Of 397 images, 20 to 24 are wrong on one side, and 40 more on the other.
    assert (verdict, base, head) == ("**worse**", "94.46 ± 0.40 %", "84.38 ± 0.40 %")
    mean, low, high = numbers(difference)
    assert mean == -10.08
    assert (low + high) / 2 == pytest.approx(mean, abs=0.01)
    assert low < high < 0
    # A difference that is found four times in five is about 2.8 standard errors, and the interval extends over 1.97.
    assert float(detectable) / (mean - low) == pytest.approx(2.81 / 1.97, rel=0.02)
    assert p_value == "< 0.0001"
    assert f"\n  mlp64: worse; {base} to {head}, difference −10.08 points (" in printed
    assert {low, high, float(detectable)} <= set(numbers(printed))
    row = " ".join(re.sub(r"<.*?>", " ", page.partition("<tr><th>mlp64</th>")[2].partition("</tr>")[0]).split())
    assert numbers(row) == [mean, low, high, 94.46, 0.4, 5, 84.38, 0.4, 5, float(detectable), 0.0001]
    assert '<td class="verdict worse"><b>worse</b></td>' in page
    assert "for their writers by a fixed factor." in page
    assert cells(text, "cnn") == ["**same results**", "0", "99.75 ± 0.00 %", "99.75 ± 0.00 %", "–", "–"]


def test_a_worse_variant_fails_the_review_and_a_better_one_does_not() -> None:
    assert compare(FEW, MANY).refuses()
    for review, outcome in ((compare(MANY, FEW), "better"), (compare(FEW, FEW), "same results")):
        assert str(review.verdicts["mlp64"]) == outcome
        assert not review.refuses()
    assert not compare(FEW, [*FEW[:4], FEW[4] | {200}]).refuses()  # no evidence


@pytest.mark.parametrize("sides", [(FEW[:1], MANY), (FEW, MANY[:1]), (FEW[:1], MANY[:1])])
def test_a_verdict_by_a_single_seed_is_labelled_and_fails_only_if_asked_to(sides: tuple[Errors, Errors]) -> None:
    review = compare(*sides, fewer_seeds=True)
    label = "worse (one seed: by the images alone)"
    assert f"\n  mlp64: {label}; " in render.summary(review)
    page, text = pages(review)
    assert cells(text, "mlp64")[0] == f"**{label}**"
    for content in (page, text):
        assert "A verdict by the images alone compares the trained networks: " in content
    assert not review.refuses()
    assert review.refuses(one_seed=True)


def test_fewer_seeds_than_in_the_base_fail_the_review_unless_they_are_allowed() -> None:
    note = "'new' has fewer seeds than 'main' (mlp64: 2 instead of 5): the review may miss larger differences."
    assert notes(compare(FEW, FEW[:2])) == [f"blocks: {note}"]
    assert compare(FEW, FEW[:2]).refuses()
    assert notes(compare(FEW, FEW[:2], fewer_seeds=True)) == [f"does not block: {note}"]
    assert notes(compare(FEW[:2], FEW)) == []


def test_the_margin_of_the_head_does_not_count() -> None:
    wide, narrow = {"review": {"margin": 20}, "evaluate": {}}, {"review": {"margin": 0.1}, "evaluate": {}}
    review = judge(side("main", params=narrow, mlp64=FEW), side("new", params=wide, mlp64=MANY))
    assert review.refuses()
    assert "| review.margin | 0.1 | 20 |" in pages(review)[1]
    review = judge(side("main", params=wide, mlp64=FEW), side("new", params=narrow, mlp64=MANY))
    assert not review.refuses()
    page, text = pages(review)
    assert cells(text, "mlp64")[0] == "**equal within 20 points**"
    assert "“Equal” means that the whole interval lies within the margin." in page


def test_images_are_sorted_by_how_much_their_error_rate_changed() -> None:
    seeds = [(images | {31}) - {1} for images in FEW]
    seeds[0] |= {30, 32}
    seeds[1] |= {30}
    seeds[2] -= {0}
    page, text = pages(compare(FEW, seeds))
    assert "- more seeds are wrong (3): 31, 30, 32\n- fewer seeds are wrong (2): 1, 0\n" in text
    shown = captions(page)
    assert [image for image, _, _ in shown] == [f"image {index}, a {index % 10}" for index in (31, 30, 32, 1, 0)]
    assert shown[1][1:] == ["main: 0 of 5 wrong", "new: 2 of 5 wrong: 1 60.00 %, 0 30.00 %"]
    assert shown[3][1] == "main: 5 of 5 wrong: 2 60.00 %, 1 30.00 %"


def test_an_image_that_is_not_among_the_listed_mistakes_is_shown_with_its_number_of_seeds() -> None:
    head = side("new", mlp64=[images | {20, 21} for images in FEW])
    found = head.results["mlp64"]
    assert found
    del found.mistakes[21]
    listed, other = captions(pages(judge(side("main", mlp64=FEW), head))[0])
    assert (listed[0], listed[2]) == ("image 20, a 0", "new: 5 of 5 wrong: 1 60.00 %, 0 30.00 %")
    assert other == ["image 21", "main: 0 of 5 wrong", "new: 5 of 5 wrong"]


def test_writers_in_the_parameters_of_the_base_replace_the_fixed_factor(tmp_path: Path) -> None:
    # As many writers as images: the images are independent, and the interval is narrower.
    table = tmp_path / "writers.tsv"
    table.write_text("".join(f"{index % 10}\t4\t{index}\t0\n" for index in range(IMAGES)), "utf-8")
    writers = {"source": str(table), "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    head = replace(side("new", mlp64=MANY), revision=Revision(tmp_path, "new", None))
    review = judge(side("main", params={"evaluate": {"writers": writers}}, mlp64=FEW), head)
    for content in pages(review):
        assert "for the choice of test images, and for their writers. " in content
        assert "fixed factor" not in content
    (low, high), (fixed_low, fixed_high) = (each.verdicts["mlp64"].interval for each in (review, compare(FEW, MANY)))
    assert high - low < 0.8 * (fixed_high - fixed_low)


def test_a_variant_that_the_head_lacks_fails_the_review_unless_it_is_named() -> None:
    base, head = side("main", mlp64=FEW), side("new")
    text = "'new' no longer has variant mlp64: it is not compared."
    review = judge(base, head, removed=["cnn"])
    assert (notes(review), list(review.verdicts), review.refuses()) == ([f"blocks: {text}"], ["cnn"], True)
    review = judge(base, head, removed=["mlp64"])
    assert not review.refuses()
    page, markdown = pages(review)
    assert f'<p class="note"><b>does not block:</b> {markupsafe.escape(text)}</p>' in page
    assert f"> **does not block:** {text}\n" in markdown
    assert "| variants | [cnn, mlp64] | [cnn] |\n" in markdown
    added = judge(head, base)
    assert notes(added) == ["does not block: 'new' does not have variant mlp64: it is not compared."]


def test_other_test_images_fail_the_review_unless_they_are_allowed() -> None:
    base, head = side("main"), side("new", test="1")
    note = "The test images of the two sides are not the same: there are no verdicts."
    review = judge(base, head)
    assert (notes(review), review.verdicts, review.refuses()) == ([f"blocks: {note}"], {}, True)
    assert "| test.md5 | 0 | 1 |" in pages(review)[1]
    assert notes(judge(base, head, new_data=True)) == [f"does not block: {note}"]


def test_a_commit_whose_parameters_have_not_run_is_not_judged_as_head_or_base() -> None:
    fresh = side("new", mlp64=FEW)
    old = replace(fresh, revision=Revision(Path(), "old", "1"), stale=["train@cnn: changed deps: src: modified"])
    text = (
        "The results of 'old' are not of its code, parameters and data: there are no verdicts. "
        "Not up to date: train@cnn."
    )
    for review in (judge(fresh, old, new_data=True, no_base=True), judge(old, fresh)):
        assert (notes(review), review.verdicts, review.void) == ([f"blocks: {text}"], {}, True)
    review = judge(old, fresh, no_base=True)
    assert (notes(review), review.verdicts, review.void) == ([f"does not block: {text}"], {}, False)


def test_a_base_without_results_is_reviewed_without_verdicts() -> None:
    fresh = side("new", mlp64=FEW)
    stale = ["metrics/summary.json: no stage writes it"]
    empty = Side(Revision(Path(), "empty", "1"), {path: {} for path in report.PARSERS}, None, stale)
    *unread, note = notes(judge(empty, fresh))
    assert len(unread) == len(report.PARSERS)
    assert "does not block: 'empty' has no dvc.lock that can be read: its values are not compared." in unread
    text = "'empty' has no results that this version of digits can read: there are no verdicts."
    assert note == f"blocks: {text}"
    review = judge(empty, fresh, no_base=True)
    assert (notes(review)[-1], review.refuses()) == (f"does not block: {text}", False)
    review = judge(fresh, empty, no_base=True)
    assert review.void
    assert notes(review)[-1].startswith("blocks: The results of 'empty' are not of its code, parameters and data: ")


def test_missing_results_are_noted_with_the_side_that_lacks_them() -> None:
    fresh, lacking = side("new", mlp64=MANY), side("old", mlp64=FEW)
    lacking = replace(lacking, results={**lacking.results, "mlp64": None})
    text = "'old' has no results of variant mlp64 that this version of digits can read: there is no verdict on it."
    for review in (judge(lacking, fresh), judge(fresh, lacking), judge(fresh, lacking, no_base=True)):
        assert (notes(review), list(review.verdicts), review.refuses()) == ([f"blocks: {text}"], ["cnn"], True)
    assert notes(judge(lacking, fresh, no_base=True)) == [f"does not block: {text}"]


@pytest.fixture
def workspace(tmp_path: Path) -> Revision:
    """A folder that has nothing but the results of `MANY` for mlp64."""
    found, files = results(MANY), paths.VariantFiles("mlp64")
    write_json(tmp_path / files.metrics, {"test": {"errors": {"values": found.result.errors}}})
    write_csv(tmp_path / files.errors, pd.DataFrame([asdict(mistake) for mistake in found.mistakes.values()]))
    seeds_wrong.write(tmp_path / files.test_errors, found.result.wrong)
    return Revision(tmp_path, "workspace", None)


def test_results_are_read_with_those_of_a_version_that_listed_every_mistake_in_one_file(workspace: Revision) -> None:
    for count in (3, 2):
        assert len(result_files(workspace, "mlp64")) == count
        found, expected = read_results(workspace, "mlp64", IMAGES), results(MANY)
        assert found
        assert (found.mistakes, found.result.errors) == (expected.mistakes, expected.result.errors)
        np.testing.assert_array_equal(found.result.wrong, expected.result.wrong)
        (workspace.root / paths.VariantFiles("mlp64").test_errors).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("errors", lambda _: b"index,label,predicted\n8,5,6\n"),  # of an older version
        ("errors", lambda rows: rows + b"396,6,1,7,0.6,0.3\n"),  # an image that test_errors.csv does not have
        ("errors", lambda _: b""),
        ("errors", lambda _: b"\xff\xfe"),
        ("test_errors", lambda rows: rows[: rows.rstrip().rindex(b"\n") + 1]),  # other numbers than the metrics
        ("metrics", lambda _: b'{"test": {"errors": 367}}'),
        ("metrics", lambda _: b"[]"),
    ],
)
def test_results_that_cannot_be_read_are_none(workspace: Revision, name: str, change: Callable[[bytes], bytes]) -> None:
    file = workspace.root / getattr(paths.VariantFiles("mlp64"), name)
    file.write_bytes(change(file.read_bytes()))
    assert read_results(workspace, "mlp64", IMAGES) is None


@pytest.mark.parametrize("content", [b'{"test": ', b"[]", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_empty(workspace: Revision, content: bytes) -> None:
    for path, parse in report.PARSERS.items():
        (workspace.root / path).parent.mkdir(exist_ok=True)
        (workspace.root / path).write_bytes(content)
        assert workspace.mapping(path, parse) == {}


def test_the_packages_and_files_that_changed_are_listed_by_stage() -> None:
    base, head = side("main"), side("new")
    for each, digest in ((base, "a"), (head, "b")):
        files = {"src/digits/evaluation": digest, "src/digits/core": "c", "data/published.yaml": digest}
        deps = [{"path": path, "md5": md5} for path, md5 in files.items()]
        stages = each.contents[LOCK]["stages"]
        stages["compare"] = {"deps": [*deps, {"path": "src/digits/stages/compare.py", "md5": digest}]}
        stages["evaluate@cnn"]["deps"] += deps
        stages["evaluate@gone"] = {"deps": deps}  # DVC keeps the stages of variants that are no longer listed
    head.contents[LOCK]["stages"]["new"] = {"deps": [{"path": "src/digits/new.py", "md5": "d"}]}
    page, text = pages(judge(base, head))
    section = text.partition("### Stages whose code changed\n")[2].partition("\n#")[0]
    assert [line for line in section.splitlines() if line.startswith("| ")][2:] == [
        "| evaluate@cnn | src/digits/evaluation |",
        "| compare | src/digits/evaluation, src/digits/stages/compare.py |",
    ]
    assert '<tr><th>evaluate@cnn</th><td class="names">src/digits/evaluation</td></tr>' in page


# Whole reviews


@pytest.fixture(scope="module")
def folder(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository after the experiment `alone`, whose results are in the work tree."""
    return shutil.copytree(experiment, tmp_path_factory.mktemp("review") / "digits", symlinks=True)


def read(folder: Path) -> tuple[str, str]:
    page, text = (folder / "review" / name for name in ("index.html", "index.md"))
    return page.read_text("utf-8"), html.unescape(text.read_text("utf-8")).replace("\N{ZERO WIDTH SPACE}", "")


def test_a_review_shows_verdicts_images_parameters_and_charts(folder: Path) -> None:
    printed = call(folder, "review", "main", "--head", "alone")
    assert re.search(r"\n  mlp64: .*, difference \+\d", printed)
    page, text = read(folder)
    assert "| train.epochs | 2 | 3 |" in text
    assert re.search(r"x-axis \"epochs\" 1 --> 2\n", text)
    # The probability on the side that is right is not in Git, but in the cache.
    shown = captions(page)
    assert len(shown) == page.count('class="digit"') > 10
    assert any(re.fullmatch(rf"alone: 0 of 1 wrong: {each[0][-1]} \d+\.\d\d %", each[2]) for each in shown)

    charts = re.findall(r'<figure class="chart"><svg.*?</svg><figcaption>(.*?)</figcaption>', page, re.DOTALL)
    assert "Accuracy against epochs: main and alone" in charts
    assert len(charts) == 2 + 2 * 2
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):  # no chart is blank
        assert len(re.findall(r"<path |<text ", chart)) > 30
    assert not re.search(r'(src|href)="http', page)
    order = ["Is the change real?", "Parameters that changed", "the images whose error rate changed", "Charts"]
    places = [page.index(f"{heading}</h2>") for heading in order]
    assert places == sorted(places)


def test_a_clone_without_the_cache_is_reviewed_without_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_add_plots", lambda result, root: None)
    run(tmp_path, "git", "clone", "-q", str(folder), "fresh")
    run(tmp_path / "fresh", "git", "fetch", "-q", "origin", "refs/exps/*:refs/exps/*")
    expected = call(folder, "review", "main", "--head", "alone")
    assert call(tmp_path / "fresh", "review", "main", "--head", "alone") == expected
    page, _ = read(tmp_path / "fresh")
    assert 'class="digit"' not in page
    assert all(re.search(r"\d of 1 wrong", each[2]) for each in captions(page))


def test_an_unchanged_workspace_has_the_same_results_even_if_dvc_plots_fails(folder: Path) -> None:
    pipeline = folder / "dvc.yaml"
    pipeline.write_text(pipeline.read_text("utf-8").replace("template: ", "template: no-"), "utf-8")
    output = call(folder, "review", "alone", "--fail-if-worse")
    run(folder, "git", "checkout", "-q", "dvc.yaml")
    assert output.count(": same results; ") == 1
    assert "difference" not in output
    assert "note (does not block): There are no charts: `dvc plots diff` failed: " in output
    assert "There are no charts." in read(folder)[0]


def test_a_workspace_whose_parameters_have_not_run_is_not_judged(folder: Path) -> None:
    edit(folder / "params.yaml", models__mlp64__units=[512])
    output = call(folder, "review", "alone", fails=True)
    edit(folder / "params.yaml", models__mlp64__units=[64])
    note = (
        "The results of 'workspace' are not of its code, parameters and data: there are no verdicts. Not up to "
        "date: params, train@mlp64, compare, cards."
    )
    assert f"note (blocks): {note}" in output
    reason = "train@mlp64: changed deps: params.yaml: models.mlp64 modified"
    assert f"\n    {reason}\n" in output
    page, text = read(folder)
    assert f"> **blocks:** {note}\n" in text
    assert f"- DVC: {reason}\n" in text
    assert "| models.mlp64.units | [64] | [512] |" in text
    assert f"<li>{reason}</li>" in page
    assert "<code>mlp64</code> |" not in text
    assert "Is the change real?" not in page
