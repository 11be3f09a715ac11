"""`digits review` between revisions of a clone with the small data set."""

import csv
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import markupsafe
import pytest
from support import call, edit, run
from variant_results import record, set_errors

from digits.core.config import parse_fast, parse_like_dvc
from digits.core.paths import VariantFiles
from digits.review import report

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("review")]

FEW = [{*range(20), *range(100, 100 + seed)} for seed in range(5)]  # the images that each of five seeds misclassifies
MANY = [images | set(range(20, 60)) for images in FEW]


@pytest.fixture(scope="module")
def narrow(clone: Path) -> str:
    """The commit of an experiment in the clone, `narrow`, whose mlp64 has a single unit."""
    run(clone, "dvc", "exp", "run", "-n", "narrow", "-S", "models.mlp64.units=[1]")
    restore(clone)
    return run(clone, "git", "for-each-ref", "--format=%(objectname)", "refs/exps/**/narrow").strip()


@pytest.fixture
def edited(clone: Path) -> Iterator[Path]:
    """The clone, whose files are restored after the test."""
    yield clone
    restore(clone)


@pytest.fixture
def few(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The clone, on a branch `few` with the results of five seeds for mlp64, at most 24 errors each.

    Its reviews have no charts, which take long.
    """
    monkeypatch.setattr(report, "_add_plots", lambda result, root: None)
    run(clone, "git", "checkout", "-q", "-b", "few")
    set_errors(clone, "mlp64", FEW)
    commit(clone)
    yield clone
    run(clone, "git", "checkout", "-q", "--force", "main")
    for branch in run(clone, "git", "for-each-ref", "--format=%(refname:short)", "refs/heads").split():
        if branch != "main":
            run(clone, "git", "branch", "-q", "-D", branch)


def commit(clone: Path) -> None:
    run(clone, "git", "commit", "-qam", "Change the results")


def restore(clone: Path) -> None:
    run(clone, "git", "checkout", "-q", "--force", "main")
    run(clone, "git", "clean", "-fdq")
    run(clone, "dvc", "checkout", "-q", "--force")


def review(folder: Path, *words: str, fails: bool = False) -> str:
    return call(folder, "review", *words, fails=fails)


def written(folder: Path) -> tuple[str, str]:
    """Return the page and the Markdown of the last review, the latter without its escapes."""
    page, text = (folder / "review" / name for name in ("index.html", "index.md"))
    return page.read_text("utf-8"), html.unescape(text.read_text("utf-8")).replace("\N{ZERO WIDTH SPACE}", "")


def cells(text: str, variant: str) -> list[str]:
    """Return the cells of a variant's row in the table of verdicts, without the variant, from the Markdown."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| <code>{variant}</code> |")]
    return [cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in row.strip("|").split("|")][1:]


def numbers(text: str) -> list[float]:
    """Return the numbers in a text, in the order in which they appear."""
    return [float(word) for word in re.findall(r"[-+]?\d+\.?\d*", text.replace("\N{MINUS SIGN}", "-"))]


def error_rates(clone: Path, revision: str, variant: str) -> dict[int, float]:
    """Return the share of the two seeds that misclassify an image, by the index of each image with errors."""
    text = run(clone, "git", "show", f"{revision}:plots/variants/{variant}/errors.csv")
    return {int(row["index"]): int(row["seeds_wrong"]) / 2 for row in csv.DictReader(text.splitlines())}


def captions(page: str) -> list[list[str]]:
    """Return the caption below each image of a page, one text for the image and one for each side."""
    found = re.findall(r"<figcaption>(image .*?)</figcaption>", page, re.DOTALL)
    return [[" ".join(re.sub(r"<.*?>", "", part).split()) for part in caption.split("<br>")] for caption in found]


def test_an_unchanged_workspace_has_the_same_results(clone: Path) -> None:
    # The one test that starts the program itself.
    printed = run(clone, "digits", "review", "--fail-if-worse")
    assert printed.count(": same results; ") == 2
    assert "difference" not in printed
    page, text = written(clone)
    for variant in ("mlp64", "cnn"):
        verdict, difference, base, head, *rest = cells(text, variant)
        assert (verdict, difference, rest) == ("**same results**", "0", ["–", "–"])
        assert base == head
        assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d %", base)
    assert page.count("<b>same results</b>") == 2
    assert "No chart differs." in page
    assert 'class="digit"' not in page
    assert "mermaid" not in text


def test_a_commit_has_the_same_results_as_itself(clone: Path) -> None:
    assert review(clone, "main", "--head", "HEAD").count("same results") == 2


def test_a_review_shows_verdicts_images_parameters_and_charts(clone: Path, narrow: str) -> None:
    printed = review(clone, "main", "--head", "narrow")
    assert re.search(r"\n  mlp64: .*, difference −\d", printed)
    assert "cnn: same results" in printed
    page, text = written(clone)
    assert "| models.mlp64.units | [64] | [1] |" in text
    assert re.search(r"x-axis \"epochs\" 1 --> 2\n", text)

    base, head = (error_rates(clone, revision, "mlp64") for revision in ("main", narrow))
    change = {index: head.get(index, 0) - base.get(index, 0) for index in sorted(base | head)}
    rows = csv.DictReader(run(clone, "git", "show", f"{narrow}:plots/variants/mlp64/errors.csv").splitlines())
    doubt = {int(row["index"]): float(row["probability_label"]) - float(row["probability_answer"]) for row in rows}
    more = sorted((index for index in change if change[index] > 0), key=lambda index: (-change[index], doubt[index]))
    assert len(more) > 30
    assert f"- more seeds are wrong ({len(more)}): {', '.join(map(str, more[:30]))}\n" in text
    assert f"<h3>More seeds are wrong: {len(more)}, the 30 that changed most</h3>" in page
    # The probability on the side that is right is not in Git, but in the cache.
    image, main, other = captions(page)[0]
    label = image[-1]
    assert image == f"image {more[0]}, a {label}"
    assert re.fullmatch(rf"main: 0 of 2 wrong: {label} \d+\.\d\d %", main)
    assert re.fullmatch(rf"narrow: 2 of 2 wrong: \d \d+\.\d\d %, {label} \d+\.\d\d %", other)
    assert page.count('class="digit"') >= 30

    charts = re.findall(r'<figure class="chart"><svg.*?</svg><figcaption>(.*?)</figcaption>', page, re.DOTALL)
    assert "Accuracy against epochs: main and narrow" in charts
    assert len(charts) == 2 + 2 * 2
    assert [chart for chart in charts if chart.endswith("the same on both sides")] == [
        "cnn, training: the same on both sides",
        "cnn, confusion on the test images: the same on both sides",
    ]
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):  # no chart is blank
        assert len(re.findall(r"<path |<text ", chart)) > 30
    assert not re.search(r'(src|href)="http', page)


def test_a_worse_variant_is_shown_with_its_interval_spreads_and_the_smallest_difference_found(few: Path) -> None:
    set_errors(few, "mlp64", MANY)
    printed = review(few, "few")
    page, text = written(few)
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


def test_a_worse_variant_fails_the_review_and_a_better_one_does_not(few: Path) -> None:
    run(few, "git", "checkout", "-q", "-b", "many")
    set_errors(few, "mlp64", MANY)
    commit(few)
    assert "mlp64: worse; " in review(few, "few", "--head", "many", "--fail-if-worse", fails=True)
    better = review(few, "many", "--head", "few", "--fail-if-worse")
    assert "mlp64: better; " in better
    assert (
        "note (does not block): 'many' is not an ancestor of 'few': the review includes what changed in 'many' since"
        in better
    )


def test_a_small_difference_is_no_evidence_and_does_not_fail(few: Path) -> None:
    set_errors(few, "mlp64", [*FEW[:4], FEW[4] | {200}])
    assert "mlp64: no evidence of a difference; " in review(few, "few", "--fail-if-worse")
    _, text = written(few)
    mean, low, high = numbers(cells(text, "mlp64")[1])
    assert (mean, low < 0 < high) == (-0.05, True)


@pytest.mark.parametrize("sides", ["base", "head", "both"])
def test_a_verdict_by_a_single_seed_is_labelled_and_fails_only_if_asked_to(few: Path, sides: str) -> None:
    if sides != "head":
        set_errors(few, "mlp64", FEW[:1])
        commit(few)
    set_errors(few, "mlp64", MANY if sides == "base" else MANY[:1])
    label, allowed = "worse (one seed: by the images alone)", ["--allow-fewer-seeds"] if sides == "head" else []
    assert f"mlp64: {label}; " in review(few, "few", "--fail-if-worse", *allowed)
    page, text = written(few)
    assert cells(text, "mlp64")[0] == f"**{label}**"
    for content in (page, text):
        assert "A verdict by the images alone compares the trained networks: " in content
    review(few, "few", "--fail-if-worse", "--one-seed", *allowed, fails=True)


def test_fewer_seeds_than_in_the_base_fail_the_review_unless_they_are_allowed(few: Path) -> None:
    set_errors(few, "mlp64", FEW[:2])
    note = "'workspace' has fewer seeds than 'few' (mlp64: 2 instead of 5): the review may miss larger differences.\n"
    assert f"note (blocks): {note}" in review(few, "few", "--fail-if-worse", fails=True)
    assert f"note (does not block): {note}" in review(few, "few", "--fail-if-worse", "--allow-fewer-seeds")
    commit(few)
    set_errors(few, "mlp64", FEW)
    assert "fewer seeds" not in review(few, "few", "--fail-if-worse")


def test_variants_within_a_larger_margin_of_the_base_are_equal(few: Path) -> None:
    edit(few / "params.yaml", review__margin=20)
    record(few)
    commit(few)
    set_errors(few, "mlp64", MANY)
    assert "mlp64: equal within 20 points; " in review(few, "few", "--fail-if-worse")
    page, _ = written(few)
    assert "“Equal” means that the whole interval lies within the margin." in page


def test_the_margin_of_the_head_does_not_count(few: Path) -> None:
    edit(few / "params.yaml", review__margin=20)
    set_errors(few, "mlp64", MANY)
    assert "mlp64: worse; " in review(few, "few", "--fail-if-worse", fails=True)
    _, text = written(few)
    assert "| review.margin | 0.1 | 20 |" in text


def test_images_are_sorted_by_how_much_their_error_rate_changed(few: Path) -> None:
    seeds = [set(images) for images in FEW]
    for seed in range(5):
        seeds[seed] |= {31}
        seeds[seed] -= {1}
    seeds[0] |= {30, 32}
    seeds[1] |= {30}
    seeds[2] -= {0}
    set_errors(few, "mlp64", seeds)
    review(few, "few")
    page, text = written(few)
    assert "- more seeds are wrong (3): 31, 30, 32\n- fewer seeds are wrong (2): 1, 0\n" in text
    shown = captions(page)
    assert [image for image, _, _ in shown] == [f"image {index}, a {index % 10}" for index in (31, 30, 32, 1, 0)]
    assert shown[1][2] == "workspace: 2 of 5 wrong: 1 60.00 %, 0 30.00 %"
    assert shown[3][1] == "few: 5 of 5 wrong: 2 60.00 %, 1 30.00 %"


def test_writers_in_the_parameters_of_the_base_replace_the_fixed_factor(few: Path, tmp_path: Path) -> None:
    set_errors(few, "mlp64", MANY)
    review(few, "few")
    _, fixed = written(few)
    # As many writers as images: the images are independent, and the interval is narrower.
    table = tmp_path / "writers.tsv"
    table.write_text("".join(f"{index % 10}\t4\t{index}\t0\n" for index in range(397)), "utf-8")
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    run(few, "git", "checkout", "-q", "--force", "few")
    edit(few / "params.yaml", evaluate__writers={"source": str(table), "sha256": sha256})
    record(few)
    commit(few)
    set_errors(few, "mlp64", MANY)
    assert "mlp64: worse; " in review(few, "few")
    page, text = written(few)
    for content in (page, text):
        assert "for the choice of test images, and for their writers. " in content
        assert "fixed factor" not in content
    assert "for their writers by a fixed factor. " in fixed
    (_, low, high), (_, fixed_low, fixed_high) = (numbers(cells(content, "mlp64")[1]) for content in (text, fixed))
    assert high - low < 0.8 * (fixed_high - fixed_low)


def without_a_row(errors: bytes) -> bytes:
    return errors[: errors.rstrip().rindex(b"\n") + 1]


UNREADABLE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "of an older version": (
        "plots/variants/mlp64/errors.csv",
        lambda _: b"index,label,predicted,probability_predicted,probability_label\n8,5,6,0.9,0.002\n",
    ),
    "that contradict the metrics": ("plots/variants/mlp64/test_errors.csv", without_a_row),
    "that contradict the worst mistakes": (
        "plots/variants/mlp64/errors.csv",
        lambda errors: errors + b"399,9,1,0,0.6,0.3\n",
    ),
    "that are empty": ("plots/variants/mlp64/errors.csv", lambda _: b""),
    "that are no UTF-8": ("plots/variants/mlp64/errors.csv", lambda _: b"\xff\xfe"),
    "of an older version, as metrics": ("metrics/variants/mlp64.json", lambda _: b'{"test": {"errors": 367}}'),
    "that are no JSON": ("metrics/variants/mlp64.json", lambda _: b"[]"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_results_that_cannot_be_read_are_noted_and_not_judged(few: Path, what: str) -> None:
    name, change = UNREADABLE[what]
    set_errors(few, "mlp64", MANY)
    (few / name).write_bytes(change((few / name).read_bytes()))
    record(few)
    output = review(few, "few", "--fail-if-worse", fails=True)
    assert (
        "note (blocks): 'workspace' has no results of variant mlp64 that this version of digits can read: "
        "there is no verdict on it.\n"
    ) in output
    assert "\n  mlp64: " not in output
    assert "\n  cnn: same results; " in output


def test_results_of_a_version_that_listed_every_mistake_in_one_file_are_judged(few: Path) -> None:
    output = "      - plots/variants/${item.variant}/test_errors.csv:\n          cache: false\n"
    pipeline = (few / "dvc.yaml").read_text("utf-8")
    assert output in pipeline
    (few / "dvc.yaml").write_text(pipeline.replace(output, ""), "utf-8")
    lock = parse_fast((few / "dvc.lock").read_text("utf-8"))
    for stage in lock["stages"].values():
        stage["outs"] = [out for out in stage["outs"] if not out["path"].endswith("/test_errors.csv")]
    (few / "dvc.lock").write_text(json.dumps(lock), "utf-8")
    for variant in ("mlp64", "cnn"):
        (few / VariantFiles(variant).test_errors).unlink()
    record(few)
    commit(few)
    run(few, "git", "checkout", "-q", "main")
    set_errors(few, "mlp64", MANY)
    output = review(few, "few", "--fail-if-worse", fails=True)
    assert "\n  mlp64: worse; " in output
    assert "\n  cnn: same results; " in output


def test_an_image_that_is_not_among_the_listed_mistakes_is_shown_with_its_number_of_seeds(few: Path) -> None:
    set_errors(few, "mlp64", [images | {20, 21} for images in FEW])
    path = few / "plots/variants/mlp64/errors.csv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("21,")), "utf-8")
    record(few)
    review(few, "few")
    listed, other = captions(written(few)[0])
    assert (listed[0], listed[2]) == ("image 20, a 0", "workspace: 5 of 5 wrong: 1 60.00 %, 0 30.00 %")
    assert other == ["image 21", "few: 0 of 5 wrong", "workspace: 5 of 5 wrong"]


def test_missing_results_are_noted_with_the_side_that_lacks_them(few: Path) -> None:
    (few / "plots/variants/mlp64/errors.csv").write_text("", "utf-8")
    record(few)
    commit(few)
    set_errors(few, "mlp64", MANY)
    text = "'few' has no results of variant mlp64 that this version of digits can read: "
    assert f"note (blocks): {text}" in review(few, "few")
    review(few, "few", "--fail-if-worse", fails=True)
    assert f"note (does not block): {text}" in review(few, "few", "--fail-if-worse", "--allow-no-base")


def test_an_experiment_can_be_compared_pushed_pulled_applied_and_branched(
    clone: Path, narrow: str, tmp_path: Path
) -> None:
    diff = json.loads(run(clone, "dvc", "exp", "diff", "main", "narrow", "--json"))
    assert diff["params"]["params.yaml"]["models.mlp64.units"]["new"] == "[1]"
    accuracy = diff["metrics"]["metrics/summary.json"]["mlp64.accuracy"]["new"]

    remote = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'store'}\n"
    run(tmp_path, "git", "clone", "-q", "--bare", str(clone), "bare.git")
    (clone / ".dvc/config.local").write_text(remote, "utf-8")
    run(clone, "dvc", "exp", "push", str(tmp_path / "bare.git"), "narrow")
    (clone / ".dvc/config.local").unlink()

    run(tmp_path, "git", "clone", "-q", "bare.git", "other")
    other = tmp_path / "other"
    (other / ".dvc/config.local").write_text(remote, "utf-8")
    run(other, "dvc", "exp", "pull", "origin", "narrow")
    shown = run(other, "dvc", "exp", "show", "--csv", "--no-pager")
    row = next(row for row in csv.DictReader(shown.splitlines()) if row["Experiment"] == "narrow")
    assert float(row["mlp64.accuracy"]) == accuracy
    run(other, "dvc", "exp", "apply", "narrow")
    assert (other / "models/mlp64/model.keras").is_file()
    summary = json.loads((other / "metrics/summary.json").read_text("utf-8"))
    assert summary["mlp64"]["accuracy"] == accuracy
    run(other, "dvc", "exp", "branch", "narrow", "narrow-branch")
    params = parse_like_dvc(run(other, "git", "show", "narrow-branch:params.yaml"))
    assert params["models"]["mlp64"]["units"] == [1]


def remove_cnn(folder: Path) -> None:
    edit(folder / "params.yaml", variants=["mlp64"])
    summary = folder / "metrics/summary.json"
    summary.write_text(json.dumps({"mlp64": json.loads(summary.read_text("utf-8"))["mlp64"]}), "utf-8")
    record(folder)


def test_a_variant_that_the_head_lacks_fails_the_review_unless_it_is_named(few: Path) -> None:
    remove_cnn(few)
    text = "'workspace' no longer has variant cnn: it is not compared."
    output = review(few, "few", "--fail-if-worse", fails=True)
    assert "mlp64: same results; " in output
    assert "\n  cnn: " not in output
    assert f"note (blocks): {text}" in output
    review(few, "few", "--fail-if-worse", "--allow-removed", "mlp64", fails=True)
    assert f"note (does not block): {text}" in review(few, "few", "--fail-if-worse", "--allow-removed", "cnn")
    page, markdown = written(few)
    assert f'<p class="note"><b>does not block:</b> {markupsafe.escape(text)}</p>' in page
    assert f"> **does not block:** {text}\n" in markdown
    assert "| variants | [mlp64, cnn] | [mlp64] |\n" in markdown


def test_a_variant_that_the_base_lacks_does_not_fail_the_review(few: Path) -> None:
    run(few, "git", "checkout", "-q", "-b", "less")
    remove_cnn(few)
    commit(few)
    output = review(few, "less", "--head", "few", "--fail-if-worse")
    assert "note (does not block): 'less' does not have variant cnn: it is not compared." in output


def test_other_test_images_fail_the_review_unless_they_are_allowed(few: Path, tmp_path: Path) -> None:
    lock = few / "dvc.lock"
    pattern = r"(path: data/processed/test\.npz\n +hash: md5\n +md5: )\w{32}"
    lock.write_text(re.sub(pattern, rf"\g<1>{'a' * 32}", lock.read_text("utf-8")), "utf-8")
    commit(few)
    run(few, "git", "clone", "-q", "-b", "few", ".", str(tmp_path / "fresh"))  # without the cache, dvc.lock is trusted
    note = "The test images of the two sides are not the same: there are no verdicts."
    output = review(tmp_path / "fresh", "origin/main", "--fail-if-worse", fails=True)
    assert f"note (blocks): {note}" in output
    output = review(tmp_path / "fresh", "origin/main", "--fail-if-worse", "--allow-new-data")
    assert f"note (does not block): {note}" in output
    assert "same results" not in output


def test_a_workspace_whose_parameters_have_not_run_is_not_judged(few: Path) -> None:
    edit(few / "params.yaml", models__mlp64__units=[512])
    output = review(few, "few", fails=True)
    note = (
        "The results of 'workspace' are not of its code, parameters and data: there are no verdicts. Not up to "
        "date: params, train@mlp64, compare, cards."
    )
    assert f"note (blocks): {note}" in output
    assert "\n    train@mlp64: changed deps: params.yaml: models.mlp64 modified\n" in output
    assert "same results" not in output
    assert "no evidence" not in output
    page, text = written(few)
    assert f"> **blocks:** {note}\n" in text
    assert "- DVC: train@mlp64: changed deps: params.yaml: models.mlp64 modified\n" in text
    assert "| models.mlp64.units | [64] | [512] |" in text
    assert "<li>train@mlp64: changed deps: params.yaml: models.mlp64 modified</li>" in page
    for content in (page, text):
        assert "<code>mlp64</code> |" not in content
        assert "Is the change real?" not in content


def test_a_commit_whose_parameters_have_not_run_is_not_judged_as_head_or_base(few: Path) -> None:
    run(few, "git", "checkout", "-q", "-b", "changed")
    edit(few / "params.yaml", models__mlp64__units=[512])
    commit(few)
    text = "The results of 'changed' are not of its code, parameters and data: "
    for options in ([], ["--fail-if-worse", "--allow-new-data", "--allow-no-base"]):
        assert f"note (blocks): {text}" in review(few, "few", "--head", "changed", *options, fails=True)
    output = review(few, "changed", "--head", "few", fails=True)
    assert f"note (blocks): {text}" in output
    assert "results; " not in output
    output = review(few, "changed", "--head", "few", "--fail-if-worse", "--allow-no-base")
    assert f"note (does not block): {text}" in output
    assert "results; " not in output


def test_a_clone_without_the_cache_is_reviewed_without_images(clone: Path, narrow: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    run(fresh, "git", "fetch", "-q", "origin", "refs/exps/*:refs/exps/*")
    assert review(fresh, "main", "--head", "narrow") == review(clone, "main", "--head", "narrow")
    page, _ = written(fresh)
    assert 'class="digit"' not in page
    _, main, other = captions(page)[0]
    assert main == "main: 0 of 2 wrong"
    assert re.fullmatch(r"narrow: 2 of 2 wrong: \d \d+\.\d\d %, \d \d+\.\d\d %", other)


def test_a_base_that_does_not_exist_is_one_line(clone: Path) -> None:
    output = review(clone, "nowhere", fails=True)
    assert output.startswith("digits: 'nowhere' is no branch, tag, commit or experiment here")
    assert output.count("\n") == 1


def test_a_base_without_results_is_reviewed_without_verdicts(edited: Path) -> None:
    first = run(edited, "git", "rev-list", "--max-parents=0", "HEAD").strip()
    run(edited, "git", "checkout", "-q", "-b", "empty", first)
    run(edited, "git", "rm", "-q", "-r", "metrics", "plots", "dvc.lock")
    run(edited, "git", "commit", "-qm", "Remove the results")
    run(edited, "git", "checkout", "-q", "main")
    output = review(edited, "empty", "--fail-if-worse", fails=True)
    assert "note (does not block): 'empty' has no metrics/summary.json that can be read: its values are not" in output
    text = "'empty' has no results that this version of digits can read: there are no verdicts."
    assert f"note (blocks): {text}" in output
    assert f"note (does not block): {text}" in review(edited, "empty", "--fail-if-worse", "--allow-no-base")
    output = review(edited, "main", "--head", "empty", "--fail-if-worse", "--allow-no-base", fails=True)
    assert "note (blocks): The results of 'empty' are not of its code, parameters and data: " in output


def change_md5(text: str, stage: str, path: str) -> str:
    """Return a dvc.lock in which a dependency of a stage has another MD5."""
    changed, count = re.subn(
        rf"(\n  {re.escape(stage)}:\n(?:    .*\n)*?    - path: {re.escape(path)}\n +hash: md5\n +md5: )\w{{32}}",
        rf"\g<1>{'a' * 32}",
        text,
    )
    assert count == 1
    return changed


def test_the_packages_and_files_that_changed_are_listed_by_stage(edited: Path) -> None:
    lock = edited / "dvc.lock"
    text = change_md5(lock.read_text("utf-8"), "compare", "src/digits/evaluation")
    text = change_md5(text, "compare", "src/digits/stages/compare.py")
    text = change_md5(text, "evaluate@cnn", "src/digits/evaluation")
    lock.write_text(change_md5(text, "compare", "data/published.yaml"), "utf-8")
    review(edited, fails=True)  # dvc.lock is that of other code
    page, text = written(edited)
    section = text.partition("### Stages whose code changed\n")[2].partition("\n#")[0]
    assert [line for line in section.splitlines() if line.startswith("| ")][2:] == [
        "| evaluate@cnn | src/digits/evaluation |",
        "| compare | src/digits/evaluation, src/digits/stages/compare.py |",
    ]
    assert '<tr><th>evaluate@cnn</th><td class="names">src/digits/evaluation</td></tr>' in page


@pytest.mark.parametrize("content", [b'{"test": ', b"[]", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_noted(edited: Path, content: bytes) -> None:
    for name in ("metrics/dataset.json", "params.yaml", "dvc.lock"):
        (edited / name).write_bytes(content)
    output = review(edited, fails=True)
    assert "note (blocks): The results of 'workspace' are not of its code, parameters and data: " in output
    for name in ("metrics/dataset.json", "params.yaml", "dvc.lock"):
        assert (
            f"note (does not block): 'workspace' has no {name} that can be read: its values are not compared." in output
        )


def test_a_failure_of_dvc_plots_is_noted(edited: Path) -> None:
    pipeline = edited / "dvc.yaml"
    pipeline.write_text(pipeline.read_text("utf-8").replace("template: ", "template: no-"), "utf-8")
    output = review(edited, "main", "--fail-if-worse")
    assert "note (does not block): There are no charts: `dvc plots diff` failed: " in output
    assert "mlp64: same results" in output
    page, _ = written(edited)
    assert "There are no charts." in page


def test_the_cause_comes_before_the_images(clone: Path, narrow: str) -> None:
    review(clone, "main", "--head", "narrow")
    page, text = written(clone)
    headings = ["Is the change real?", "Parameters that changed", "the images whose error rate changed", "Charts"]
    found = re.findall(r"<h2>(.*?)</h2>", page)
    places = [next(at for at, heading in enumerate(found) if heading.endswith(end)) for end in headings]
    assert places == sorted(places)
    assert text.index("| <code>mlp64</code> |") < text.index("### Parameters") < text.index("more seeds are wrong")
