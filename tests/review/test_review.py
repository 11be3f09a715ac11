"""`digits review` between revisions of a clone with the small data set."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import call, edit, run

from digits.core.config import parse_like_dvc

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("review")]


@pytest.fixture(scope="module")
def narrow(clone: Path) -> str:
    """The commit of an experiment in the clone, `narrow`, whose mlp64 has fewer units and is worse."""
    run(clone, "dvc", "exp", "run", "-n", "narrow", "-S", "models.mlp64.units=[4]")
    restore(clone)
    return run(clone, "git", "for-each-ref", "--format=%(objectname)", "refs/exps/**/narrow").strip()


@pytest.fixture
def edited(clone: Path) -> Iterator[Path]:
    """The clone, whose files are restored after the test."""
    yield clone
    restore(clone)


def restore(clone: Path) -> None:
    run(clone, "git", "checkout", "-q", "--force", "main")
    run(clone, "git", "clean", "-fdq")
    run(clone, "dvc", "checkout", "-q", "--force")


def review(folder: Path, *words: str, fails: bool = False) -> str:
    return call(folder, "review", *words, fails=fails)


def written(folder: Path) -> tuple[str, str]:
    """Return the page and the Markdown of the last review."""
    page, text = (folder / "review" / name for name in ("index.html", "index.md"))
    return page.read_text("utf-8"), text.read_text("utf-8")


def wrong(clone: Path, revision: str, variant: str) -> set[int]:
    text = run(clone, "git", "show", f"{revision}:plots/variants/{variant}/errors.csv")
    return {int(row["index"]) for row in csv.DictReader(text.splitlines())}


def test_an_unchanged_workspace_does_not_differ(clone: Path) -> None:
    # The one test that starts the program itself.
    printed = run(clone, "digits", "review", "--fail-if-worse")
    assert printed.count("no evidence of a difference") == 2
    page, text = written(clone)
    assert "No chart differs." in page
    assert 'class="digit"' not in page
    assert "mermaid" not in text


def test_a_commit_does_not_differ_from_itself(clone: Path) -> None:
    assert review(clone, "main", "--head", "HEAD").count("no evidence of a difference") == 2


def test_a_review_shows_verdicts_images_parameters_and_charts(clone: Path, narrow: str) -> None:
    printed = review(clone, "main", "--head", "narrow")
    assert "cnn: no evidence of a difference" in printed
    base, head = wrong(clone, "main", "mlp64"), wrong(clone, narrow, "mlp64")
    page, text = written(clone)
    assert "| models.mlp64.units | [64] | [4] |" in text
    assert f"| {len(base - head)} | {len(head - base)} |" in text
    assert f"- newly right: {', '.join(map(str, sorted(base - head)))}" in text
    assert re.search(r"x-axis \"epochs\" 1 --> 2\n", text)
    assert f"<h3>Newly right: {len(base - head)}</h3>" in page
    assert page.count('class="digit"') > 0
    # The probability on the side that is right is not in Git, but in the cache.
    first = min(base - head)
    caption = re.search(
        rf"<figcaption>image {first}, a <b>(\d)</b><br>main: (.*?)<br>narrow: (.*?)</figcaption>", page, re.DOTALL
    )
    assert caption
    main, right = (re.sub(r"<.*?>|\s+", " ", side).split() for side in caption.groups()[1:])
    assert (right[0], right[1], right[3]) == (caption[1], "at", "%")
    assert main[0] != caption[1] == main[4]
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


def test_an_experiment_can_be_compared_pushed_pulled_applied_and_branched(
    clone: Path, narrow: str, tmp_path: Path
) -> None:
    diff = json.loads(run(clone, "dvc", "exp", "diff", "main", "narrow", "--json"))
    assert diff["metrics"]["metrics/summary.json"]["mlp64.parameters"]["old"] == 50_890
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
    assert params["models"]["mlp64"]["units"] == [4]


def test_a_worse_variant_fails_the_review_and_a_better_one_does_not(clone: Path, narrow: str) -> None:
    assert "mlp64: worse; " in review(clone, "--head", "narrow", "--fail-if-worse", fails=True)
    better = review(clone, "narrow", "--head", "main", "--fail-if-worse")
    assert "mlp64: better; " in better
    assert "note: 'narrow' is not an ancestor of 'main': the review includes what changed in 'narrow' since" in better


def test_a_worse_workspace_with_a_variant_less_fails_the_review(edited: Path, narrow: str) -> None:
    run(edited, "git", "checkout", "-q", narrow, "--", ".")
    edit(edited / "params.yaml", variants=["mlp64"])
    summary = edited / "metrics/summary.json"
    summary.write_text(json.dumps({"mlp64": json.loads(summary.read_text("utf-8"))["mlp64"]}), "utf-8")
    output = review(edited, "--fail-if-worse", fails=True)
    assert "mlp64: worse; " in output
    assert "note: Only 'main' has variant cnn: there is nothing to compare it with." in output
    assert "\n  cnn: " not in output


def test_a_clone_without_the_cache_is_reviewed_without_images(clone: Path, narrow: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    run(fresh, "git", "fetch", "-q", "origin", "refs/exps/*:refs/exps/*")
    assert "mlp64: worse; " in review(fresh, "main", "--head", "narrow")
    page, _ = written(fresh)
    assert 'class="digit"' not in page
    assert "<figcaption>image " in page
    assert re.search(r'<b class="right">\d</b>, right', page)


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
    output = review(edited, "empty")
    assert "note: 'empty' has no metrics/summary.json that can be read: its values are not compared." in output
    assert "there are no verdicts" in output


def change_md5(text: str, stage: str, path: str) -> str:
    """Return a dvc.lock in which a dependency of a stage has another MD5."""
    changed, count = re.subn(
        rf"(\n  {re.escape(stage)}:\n(?:    .*\n)*?    - path: {re.escape(path)}\n +hash: md5\n +md5: )\w{{32}}",
        rf"\g<1>{'0' * 32}",
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
    review(edited)
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
    output = review(edited)
    for name in ("metrics/dataset.json", "params.yaml", "dvc.lock"):
        assert f"note: 'workspace' has no {name} that can be read: its values are not compared." in output


def test_a_variant_without_errors_csv_is_noted(edited: Path) -> None:
    (edited / "plots/variants/cnn/errors.csv").unlink()
    output = review(edited)
    assert "note: Variant cnn lacks errors.csv on one side: there is no verdict on it." in output
    assert "mlp64: no evidence of a difference" in output


def test_a_failure_of_dvc_plots_is_noted(edited: Path) -> None:
    pipeline = edited / "dvc.yaml"
    pipeline.write_text(pipeline.read_text("utf-8").replace("template: ", "template: no-"), "utf-8")
    output = review(edited, "main")
    assert "note: There are no charts: `dvc plots diff` failed: " in output
    assert "no evidence of a difference" in output
    page, _ = written(edited)
    assert "There are no charts." in page
