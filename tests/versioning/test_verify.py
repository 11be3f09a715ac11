"""`digits verify` in a clone with committed results of the small data set."""

import contextlib
import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from support import call, edit, run

from digits.versioning import verify as module
from digits.versioning.revisions import Revision
from digits.versioning.verify import TOLERANCES, Agreement, Comparison, Difference, Verification

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("verify")]

SAME = "The results have the same bytes as those committed in HEAD.\n"
WITHIN = (
    "The results differ from those committed in HEAD as results from another kind of processor do: nothing is wrong."
)
OUTSIDE = "The results differ from those committed in HEAD by more than another kind of processor explains, although "
EXPECTED = "Different results are expected, because the code or the parameters are not those of HEAD: "


@pytest.fixture
def plain(clone: Path, tmp_path: Path) -> Path:
    """A clone without the DVC cache."""
    run(tmp_path, "git", "clone", "-q", str(clone), "plain")
    return tmp_path / "plain"


@pytest.fixture
def cached(clone: Path) -> Iterator[Path]:
    """The clone with the DVC cache, which is put back in order after the test."""
    yield clone
    run(clone, "git", "checkout", "-q", ".")
    with contextlib.chdir(clone), Repo() as repo:
        repo.checkout(force=True)


def verify(folder: Path, *words: str, fails: bool = False) -> str:
    return call(folder, "verify", *words, fails=fails)


def change_summary(folder: Path, change: Callable[[dict[str, dict[str, float]]], object]) -> None:
    path = folder / "metrics/summary.json"
    summary = json.loads(path.read_text("utf-8"))
    change(summary)
    path.write_text(json.dumps(summary), "utf-8")


def nudge_summary(folder: Path, tolerances: float) -> None:
    def nudge(summary: dict[str, dict[str, float]]) -> None:
        summary["mlp64"]["loss"] += tolerances * TOLERANCES["mlp64"]["loss"]

    change_summary(folder, nudge)


def nudge_curves(folder: Path, tolerances: float) -> None:
    path = folder / "plots/curves.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (row["variant"], row["split"], row["epoch"]) == ("mlp64", "validation", "2"):
            row["accuracy"] = str(float(row["accuracy"]) - tolerances * TOLERANCES["mlp64"]["accuracy"])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


NUDGES = {
    "loss after the last epoch: here ": nudge_summary,
    "accuracy at epoch 2 on the validation images: here ": nudge_curves,
}


def test_unchanged_results_have_the_same_bytes(plain: Path) -> None:
    # The one test that starts the program itself.
    assert run(plain, "digits", "verify") == f"mlp64: same bytes\ncnn: same bytes\n{SAME}"
    assert verify(plain, "--after-repro") == SAME


@pytest.mark.parametrize(("place", "nudge"), NUDGES.items())
def test_half_a_tolerance_is_within_tolerance(plain: Path, place: str, nudge: Callable[[Path, float], None]) -> None:
    nudge(plain, 0.5)
    mlp64, cnn, *explanation = verify(plain).splitlines()
    assert mlp64.startswith(f"mlp64: within tolerance: 1 number differs: {place}")
    assert cnn == "cnn: same bytes"
    assert explanation[0] == WITHIN


@pytest.mark.parametrize(("place", "nudge"), NUDGES.items())
def test_two_tolerances_are_outside_tolerance(plain: Path, place: str, nudge: Callable[[Path, float], None]) -> None:
    nudge(plain, 2)
    mlp64, cnn, *explanation = verify(plain, fails=True).splitlines()
    assert mlp64.startswith(f"mlp64: outside tolerance: 1 number differs: {place}")
    assert cnn == "cnn: same bytes"
    assert explanation[0].startswith(OUTSIDE)
    assert verify(plain, "--after-repro").splitlines() == [mlp64, cnn, *explanation]


def test_another_number_of_epochs_is_outside_tolerance(plain: Path) -> None:
    change_summary(plain, lambda summary: summary["cnn"].update(epochs=3))
    assert "epochs after the last epoch: here 3, committed 2" in verify(plain, fails=True)


def test_a_missing_variant_is_outside_tolerance(plain: Path) -> None:
    change_summary(plain, lambda summary: summary.pop("cnn"))
    output = verify(plain, fails=True)
    assert "cnn: outside tolerance" in output
    assert "here none, committed " in output


def test_other_bytes_with_the_same_numbers_are_within_tolerance(plain: Path) -> None:
    with (plain / "plots/variants/cnn/confusion.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    lock = plain / "dvc.lock"
    text = lock.read_text("utf-8")
    at = text.index("md5: ", text.index("path: models/mlp64")) + len("md5: ")
    lock.write_text(text[:at] + "0" * 32 + text[at + 32 :], "utf-8")
    assert verify(plain).startswith(
        "mlp64: within tolerance: no number differs, but models/mlp64\n"
        "cnn: within tolerance: no number differs, but plots/variants/cnn/confusion.csv\n"
        f"{WITHIN}\n"
    )


def test_a_base_other_than_head_is_named(plain: Path) -> None:
    nudge_summary(plain, 0.5)
    commit = run(plain, "git", "rev-parse", "HEAD").strip()
    explanation = verify(plain, "main").splitlines()[2:]
    assert explanation[0] == WITHIN.replace("HEAD", "main")
    assert explanation[1].endswith(f"type `git checkout {commit} -- dvc.lock metrics plots`.")
    assert "git stash" not in "".join(explanation)


@pytest.mark.parametrize("tolerances", [0.5, 2])
def test_changed_code_or_parameters_explain_a_difference(plain: Path, tolerances: float) -> None:
    nudge_summary(plain, tolerances)
    edit(plain / "params.yaml", train__seed=1)
    *_, reason, advice = verify(plain, "--after-repro").splitlines()
    assert reason == f"{EXPECTED}params.yaml changed."
    assert advice == "To keep the results, commit dvc.lock, metrics/ and plots/ with the change."

    (plain / "src/digits/new.py").touch()
    (plain / "dvc.yaml").unlink()
    assert f"\n{EXPECTED}dvc.yaml, params.yaml and src/digits/new.py changed.\n" in verify(plain, "--after-repro")
    for name in ("core/errors.py", "core/paths.py"):
        (plain / "src/digits" / name).write_text("", "utf-8")
    assert verify(plain, "--after-repro").splitlines()[-2] == (
        f"{EXPECTED}dvc.yaml, params.yaml, src/digits/core/errors.py and 2 more changed."
    )


def test_unchanged_results_of_changed_code_have_the_same_bytes(plain: Path) -> None:
    (plain / "src/digits/new.py").touch()
    assert verify(plain, "--after-repro") == SAME


def test_a_variant_agrees_no_better_than_its_worst_number() -> None:
    close, far = (Difference("loss", "after the last epoch", 1.0, here, 0.1) for here in (1.05, 1.5))
    variants = {"a": Comparison([], []), "b": Comparison(["models/b"], [close]), "c": Comparison([], [far, close])}
    assert [variant.agreement for variant in variants.values()] == list(Agreement)
    base = Revision(Path(), "HEAD", "0" * 40)
    for count, agreement in enumerate(Agreement, 1):
        assert Verification(base, dict(list(variants.items())[:count]), []).agreement is agreement


def simulate_another_processor(folder: Path) -> None:
    """Make the results of mlp64 those of another processor: up to date for DVC, with other bytes than in Git."""
    model = folder / "models/mlp64/weights.npz"
    content = model.read_bytes()
    model.unlink()  # it may be a link to the cache
    model.write_bytes(content + b"\0")
    nudge_summary(folder, 0.5)
    with contextlib.chdir(folder), Repo() as repo:
        repo.commit(force=True)


def advised(output: str, program: str) -> list[str]:
    """Return the command of a program that the output advises to type."""
    (command,) = re.findall(rf"`({program}[^`]*)`", output)
    return shlex.split(command)


def test_the_advised_command_puts_the_committed_results_back(cached: Path) -> None:
    simulate_another_processor(cached)
    assert call(cached, "check-lock") == ""
    output = verify(cached, "--after-repro")
    assert f"\n{WITHIN}\n" in output
    run(cached, *advised(output, "git checkout"))
    assert run(cached, "git", "status", "--porcelain") == ""
    assert verify(cached, "--after-repro") == SAME
    # The models stay those of this machine, as the explanation says.
    assert "models/ and data/predictions/ stay as computed here: `dvc status` and `digits check-lock`" in output
    assert "  train@mlp64: changed outs: models/mlp64: modified\n" in call(cached, "check-lock", fails=True)
    with contextlib.chdir(cached), Repo() as repo:
        assert "train@mlp64" in repo.status()
        rerun = repo.reproduce("train@mlp64", single_item=True, dry=True)
    assert [stage.addressing for stage in rerun] == ["train@mlp64"]


def test_the_advised_stash_brings_the_results_of_this_machine_back(cached: Path) -> None:
    simulate_another_processor(cached)
    output = verify(cached, "--after-repro")
    run(cached, *advised(output, "git stash push"))
    assert run(cached, "git", "status", "--porcelain") == ""
    run(cached, *advised(output, "git stash pop"))
    assert call(cached, "check-lock") == ""
    assert verify(cached, "--after-repro") == output


def test_a_missing_output_is_one_line(plain: Path) -> None:
    (plain / "plots/variants/cnn/errors.png").unlink()
    output = verify(plain, fails=True)
    assert output.startswith("digits: 'workspace' has no plots/variants/cnn/errors.png: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize("name", ["metrics/summary.json", "plots/curves.csv", "dvc.lock"])
def test_a_missing_or_damaged_file_is_one_line(plain: Path, name: str) -> None:
    for content in (b"variant\nmlp64\n", b"\xff\xfe"):
        (plain / name).write_bytes(content)
        damaged = verify(plain, fails=True)
        assert damaged.startswith(f"digits: 'workspace' has a {name} that the pipeline did not write: ")
        assert damaged.count("\n") == 1
    (plain / name).unlink()
    missing = verify(plain, fails=True)
    assert missing.startswith(f"digits: 'workspace' has no {name}: ")
    assert missing.count("\n") == 1
    assert verify(plain, "--after-repro") == missing.replace(
        "digits: ", "The results were not compared with committed ones: ", 1
    )


def test_a_revision_that_does_not_exist_is_one_line(plain: Path) -> None:
    output = verify(plain, "nowhere", fails=True)
    assert output.startswith("digits: 'nowhere' is no branch")
    assert output.count("\n") == 1


def test_after_repro_a_revision_without_results_is_one_line_and_no_failure(plain: Path) -> None:
    run(plain, "git", "rm", "-q", "-r", "--cached", "metrics", "plots", "dvc.lock")
    run(plain, "git", "commit", "-qm", "Remove the results")
    assert verify(plain, "--after-repro") == (
        "The results were not compared with committed ones: 'HEAD' has no metrics/summary.json: "
        "name a revision with results, or run `dvc repro`\n"
    )


def test_after_repro_a_folder_that_is_no_git_checkout_is_one_line_and_no_failure(plain: Path) -> None:
    shutil.rmtree(plain / ".git")
    output = verify(plain, "--after-repro")
    assert output.startswith("The results were not compared with committed ones: ")
    assert output.endswith(" is not a git repository\n")
    assert output.count("\n") == 1


def test_after_repro_a_repository_without_a_commit_is_one_line_and_no_failure(plain: Path) -> None:
    shutil.rmtree(plain / ".git")
    run(plain, "git", "init", "-q")
    output = verify(plain, "--after-repro")
    assert output.startswith("The results were not compared with committed ones: 'HEAD' is no branch")
    assert output.count("\n") == 1


def test_without_git_the_message_says_so(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    output = verify(plain, "--after-repro")
    assert output.endswith("`git` cannot be run (No such file or directory): install Git\n")
    assert output.count("\n") == 1


def test_the_tolerances_of_an_unknown_variant_are_those_of_cnn(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCES", {"cnn": {"loss": 10 * TOLERANCES["mlp64"]["loss"]}})
    nudge_summary(plain, 5)
    assert verify(plain).startswith("mlp64: within tolerance: 1 number differs: loss after the last epoch: ")
