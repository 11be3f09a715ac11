"""`digits review` between revisions of a clone, on the small data set. The tests follow one another."""

import csv
import json
import re
from pathlib import Path

import pytest
from conftest import run
from ruamel.yaml import YAML

pytestmark = pytest.mark.timeout(240)


def wrong(clone: Path, revision: str, variant: str) -> set[int]:
    text = run(clone, "git", "show", f"{revision}:plots/variants/{variant}/errors.csv")
    return {int(row["index"]) for row in csv.DictReader(text.splitlines())}


def test_a_review_of_no_change_says_no_difference(clone: Path, reproduced: str) -> None:
    printed = run(clone, "digits", "review", "--fail-if-worse")
    assert printed.count("no evidence of a difference") == 2
    page = (clone / "review/index.html").read_text("utf-8")
    assert "No chart differs." in page
    assert 'class="digit"' not in page
    assert "mermaid" not in (clone / "review/index.md").read_text("utf-8")


def test_a_commit_against_itself_is_no_difference(clone: Path, reproduced: str) -> None:
    assert run(clone, "digits", "review", "main", "--head", "HEAD").count("no evidence of a difference") == 2


def test_a_review_shows_verdict_images_parameters_and_charts(clone: Path, reproduced: str) -> None:
    run(clone, "dvc", "exp", "run", "-n", "narrow", "-S", "models.mlp64.units=[4]")
    printed = run(clone, "digits", "review", "main", "--head", "narrow")
    assert "cnn: no evidence of a difference" in printed
    revision = run(clone, "git", "for-each-ref", "--format=%(refname)", "refs/exps/**/narrow").strip()
    base, head = wrong(clone, "main", "mlp64"), wrong(clone, revision, "mlp64")
    text, page = ((clone / "review" / name).read_text("utf-8") for name in ("index.md", "index.html"))
    assert "| models.mlp64.units | [64] | [4] |" in text
    assert f"| {len(base - head)} | {len(head - base)} |" in text
    assert f"- newly right: {', '.join(map(str, sorted(base - head)))}" in text
    assert re.search(r"x-axis \"epochs\" 1 --> 2\n", text)
    assert f"<h3>Newly right: {len(base - head)}</h3>" in page
    assert page.count('class="digit"') > 0
    # The right side's probability is not in Git, but in the cache.
    first = min(base - head)
    caption = re.search(
        rf"<figcaption>image {first}, a <b>(\d)</b><br>main: (.*?)<br>narrow: (.*?)</figcaption>", page, re.DOTALL
    )
    assert caption
    main, narrow = (re.sub(r"<.*?>|\s+", " ", side).split() for side in caption.groups()[1:])
    assert (narrow[0], narrow[1], narrow[3]) == (caption[1], "at", "%")
    assert main[0] != caption[1] == main[4]
    charts = re.findall(r'<figure class="chart"><svg.*?</svg><figcaption>(.*?)</figcaption>', page, re.DOTALL)
    assert "Accuracy against epochs: main and narrow" in charts
    assert len(charts) == 2 + 2 * 2
    assert [chart for chart in charts if chart.endswith("the same on both sides")] == [
        "cnn, training: the same on both sides",
        "cnn, confusion on the test images: the same on both sides",
    ]
    # Drawn, not blank: each chart has marks made of many points or cells.
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        assert len(re.findall(r"<path |<text ", chart)) > 30
    assert not re.search(r'(src|href)="http', page)


def test_an_experiment_is_compared_pushed_pulled_applied_and_branched(
    clone: Path, reproduced: str, tmp_path: Path
) -> None:
    diff = json.loads(run(clone, "dvc", "exp", "diff", "main", "narrow", "--json"))
    assert diff["metrics"]["metrics/summary.json"]["mlp64.parameters"]["old"] == 50_890
    accuracy = diff["metrics"]["metrics/summary.json"]["mlp64.accuracy"]["new"]

    run(tmp_path, "git", "init", "-q", "--bare", "-b", "main", "bare.git")
    run(clone, "git", "remote", "add", "origin", str(tmp_path / "bare.git"))
    run(clone, "git", "push", "-q", "origin", "main")
    run(clone, "dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    run(clone, "dvc", "exp", "push", "origin", "narrow")

    run(tmp_path, "git", "clone", "-q", "bare.git", "other")
    other = tmp_path / "other"
    run(other, "dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    run(other, "dvc", "exp", "pull", "origin", "narrow")
    shown = run(other, "dvc", "exp", "show", "--csv", "--no-pager")
    row = next(row for row in csv.DictReader(shown.splitlines()) if row["Experiment"] == "narrow")
    assert float(row["mlp64.accuracy"]) == accuracy
    run(other, "dvc", "exp", "apply", "narrow")
    assert (other / "models/mlp64/model.keras").is_file()
    summary = json.loads((other / "metrics/summary.json").read_text("utf-8"))
    assert summary["mlp64"]["accuracy"] == accuracy
    run(other, "dvc", "exp", "branch", "narrow", "narrow-branch")
    params = YAML(typ="safe", pure=True).load(run(other, "git", "show", "narrow-branch:params.yaml"))
    assert params["models"]["mlp64"]["units"] == [4]


def test_a_worse_variant_fails_the_review(clone: Path, reproduced: str) -> None:
    run(clone, "git", "checkout", "-q", ".")
    slow = ("-S", "variants=[mlp64]", "-S", "models.mlp64.optimizer.learning_rate=0.00001")
    run(clone, "dvc", "exp", "run", "-n", "slow", *slow)
    output = run(clone, "digits", "review", "--fail-if-worse", fails=True)
    assert "mlp64: worse; " in output
    assert "note: Variant cnn is in 'main' alone" in output
    run(clone, "git", "checkout", "-q", ".")
    run(clone, "git", "clean", "-fdq")
    run(clone, "dvc", "checkout", "-q")
    better = run(clone, "digits", "review", "slow", "--head", "main", "--fail-if-worse")
    assert "mlp64: better; " in better
    assert "note: 'slow' is no ancestor of 'main'" in better


def test_a_plain_clone_is_reviewed_without_data(clone: Path, reproduced: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    run(fresh, "git", "fetch", "-q", "origin", "refs/exps/*:refs/exps/*")
    assert "mlp64: worse; " in run(fresh, "digits", "review", "main", "--head", "slow")
    page = (fresh / "review/index.html").read_text("utf-8")
    assert 'class="digit"' not in page
    assert "<figcaption>image " in page
    assert re.search(r'<b class="right">\d</b>, right', page)


def test_a_base_that_does_not_exist_is_one_line(clone: Path, reproduced: str) -> None:
    output = run(clone, "digits", "review", "nowhere", fails=True)
    assert output.startswith("digits: 'nowhere' is no branch, tag, commit or experiment here")
    assert output.count("\n") == 1


def test_a_base_without_results_gives_what_can_be_made(clone: Path, reproduced: str) -> None:
    first = run(clone, "git", "rev-list", "--max-parents=0", "HEAD").strip()
    run(clone, "git", "checkout", "-q", "-b", "empty", first)
    run(clone, "git", "rm", "-q", "-r", "metrics", "plots", "dvc.lock")
    run(clone, "git", "commit", "-qm", "Remove the results")
    run(clone, "git", "checkout", "-q", "main")
    output = run(clone, "digits", "review", "empty")
    assert "note: 'empty' has no metrics/summary.json that can be read" in output
    assert "no verdict can be given" in output


def test_results_that_are_damaged_or_missing_are_noted(clone: Path, reproduced: str) -> None:
    (clone / "metrics/dataset.json").write_text('{"test": ', "utf-8")
    lock = (clone / "dvc.lock").read_text("utf-8")
    changed = re.sub(r"(path: src/digits/stages/compare.py\n\s+hash: md5\n\s+md5: )\w{32}", rf"\g<1>{'0' * 32}", lock)
    assert changed != lock
    (clone / "dvc.lock").write_text(changed, "utf-8")
    output = run(clone, "digits", "review")
    assert (
        "note: 'workspace' has no metrics/dataset.json that can be read: what stands in it is not compared." in output
    )
    assert "src/digits/stages/compare.py" in (clone / "review/index.md").read_text("utf-8")
    run(clone, "git", "checkout", "-q", ".")
    (clone / "plots/variants/cnn/errors.csv").unlink()
    output = run(clone, "digits", "review")
    assert "note: Variant cnn has no errors.csv on both sides: no verdict can be given." in output
    assert "mlp64: no evidence of a difference" in output
    run(clone, "git", "checkout", "-q", ".")


def test_charts_that_dvc_can_not_draw_are_noted(clone: Path, reproduced: str) -> None:
    (clone / "dvc.yaml").write_text(
        (clone / "dvc.yaml").read_text("utf-8").replace("template: ", "template: no-"), "utf-8"
    )
    output = run(clone, "digits", "review", "main")
    assert "note: `dvc plots diff` drew nothing: " in output
    assert "no evidence of a difference" in output
    run(clone, "git", "checkout", "-q", ".")
