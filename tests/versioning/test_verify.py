"""`digits verify` in a clone with committed results of the small data set."""

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dvc.repo import Repo
from support import call, edit, run
from variant_results import record, set_errors

from digits.evaluation import comparison
from digits.evaluation.comparison import Result
from digits.versioning.revisions import Revision
from digits.versioning.verify import Agreement, Comparison, Verification

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("verify")]

SAME = "The results have the same bytes as those committed in HEAD.\n"
NO_EVIDENCE = (
    "The bytes differ from those committed in HEAD, as on another kind of processor, but there is no evidence that the "
    "models do: nothing is wrong."
)
DIFFERS = (
    "The results differ from those committed in HEAD by more than other seeds or another kind of processor explain, "
    "although the code and the parameters are those of HEAD."
)
CAUSES = (
    "Possible causes: the results in HEAD were made by other code, the libraries are not those of requirements.txt "
    "(`make repro` installs them), or a file is damaged (`digits repair` finds it)."
)
EXPECTED = "Different results are expected, because the code or the parameters are not those of HEAD: "
STALE_HERE = (
    "There is no verdict, because the results here are not of the code, the parameters and the data here: type "
    "`dvc repro`. DVC finds:"
)
# The images that each of five seeds misclassifies: those that are committed, and the same but for a few.
FEW = [{*range(20), *range(100, 100 + seed)} for seed in range(5)]
OTHER = [*FEW[:3], FEW[3] | {200}, FEW[4] | {201}]
MANY = [images | set(range(20, 60)) for images in FEW]


@pytest.fixture
def plain(clone: Path, tmp_path: Path) -> Path:
    """A clone without the DVC cache, with committed results of five seeds for mlp64, at most 24 errors each."""
    run(tmp_path, "git", "clone", "-q", str(clone), "plain")
    set_errors(tmp_path / "plain", "mlp64", FEW)
    run(tmp_path / "plain", "git", "commit", "-qam", "Add seeds")
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


def test_unchanged_results_have_the_same_bytes(plain: Path) -> None:
    # The one test that starts the program itself.
    mlp64, cnn, explanation = run(plain, "digits", "verify").splitlines(keepends=True)
    # Of 397 images, 20 to 24 are wrong.
    assert mlp64 == "mlp64  94.46 ± 0.40 % here, 94.46 ± 0.40 % as committed: same bytes\n"
    assert re.fullmatch(r"cnn    (\S+ ± \S+ %) here, \1 as committed: same bytes\n", cnn)
    assert explanation == SAME
    assert verify(plain, "--after-repro") == mlp64 + cnn + SAME


def test_a_few_other_errors_are_no_evidence_of_a_difference(plain: Path) -> None:
    set_errors(plain, "mlp64", OTHER)
    mlp64, cnn, *explanation = verify(plain).splitlines()
    found = re.fullmatch(
        r"mlp64  94\.36 ± 0\.52 % here, 94\.46 ± 0\.40 % as committed: no evidence of a difference: "
        r"−0\.10 points \(−(\d\.\d\d) to \+(\d\.\d\d)\)",
        mlp64,
    )
    assert found
    # The seeds' part alone is 2.3 * sqrt(0.40² / 5 + 0.52² / 5).
    assert sum(map(float, found.groups())) / 2 > 0.65
    assert cnn.endswith(": same bytes")
    assert explanation[0] == NO_EVIDENCE


def test_many_other_errors_differ_and_fail_except_after_repro(plain: Path) -> None:
    set_errors(plain, "mlp64", MANY)
    mlp64, cnn, *explanation = verify(plain, fails=True).splitlines()
    assert re.fullmatch(
        r"mlp64  84\.38 ± 0\.40 % here, 94\.46 ± 0\.40 % as committed: differs: "
        r"−10\.08 points \(−1\d\.\d\d to −\d\.\d\d\)",
        mlp64,
    )
    assert cnn.endswith(": same bytes")
    assert explanation == [DIFFERS, CAUSES]
    assert verify(plain, "--after-repro").splitlines() == [mlp64, cnn, *explanation]


def test_better_results_differ_too(plain: Path) -> None:
    set_errors(plain, "mlp64", [set()] * 5)
    assert re.search(r": differs: \+5\.54 points \(\+\d\.\d\d to \+\d\.\d\d\)\n", verify(plain, fails=True))


def test_a_single_seed_is_compared_by_the_images_alone(plain: Path) -> None:
    set_errors(plain, "mlp64", OTHER[3:4])
    mlp64 = verify(plain).splitlines()[0]
    assert mlp64.startswith(
        "mlp64  93.95 % here, 94.46 ± 0.40 % as committed: no evidence of a difference: −0.50 points"
    )
    assert mlp64.endswith("), one seed: by the images alone")
    set_errors(plain, "mlp64", MANY[:1])
    assert "), one seed: by the images alone\n" in verify(plain, fails=True)


def test_a_margin_in_the_committed_parameters_makes_a_difference_equal(plain: Path) -> None:
    set_errors(plain, "mlp64", MANY)
    edit(plain / "params.yaml", review__margin=20)
    record(plain)
    assert ": differs: " in verify(plain, fails=True)
    run(plain, "git", "checkout", "-q", "--", "cards", "metrics", "plots")
    record(plain)
    run(plain, "git", "commit", "-qam", "Widen the margin")
    set_errors(plain, "mlp64", MANY)
    assert ": no evidence of a difference: −10.08 points" in verify(plain)


def test_results_of_another_format_differ(plain: Path) -> None:
    (plain / "plots/variants/mlp64/errors.csv").write_text("index,label,predicted\n8,5,6\n", "utf-8")
    record(plain)
    assert "mlp64  no comparable results here, 94.46 ± 0.40 % as committed: differs\n" in verify(plain, fails=True)


def test_other_bytes_with_the_same_errors_are_no_evidence_of_a_difference(plain: Path) -> None:
    for name in ("confusion.csv", "epochs.csv"):
        with (plain / "plots/variants/cnn" / name).open("a", encoding="utf-8") as file:
            file.write("\n")
    record(plain)
    lock = plain / "dvc.lock"
    text, count = re.subn(
        r"(path: models/mlp64\n +hash: md5\n +md5: )\w{32}", rf"\g<1>{'a' * 32}", lock.read_text("utf-8")
    )
    assert count == 2  # in train, which writes the folder, and in evaluate, which reads it
    lock.write_text(text, "utf-8")
    mlp64, cnn, *explanation = verify(plain).splitlines()
    same = "94.46 ± 0.40 % here, 94.46 ± 0.40 % as committed: the same errors, but"
    assert mlp64 == f"mlp64  {same} models/mlp64 differs"
    assert re.search(r": the same errors, but plots/variants/cnn/(confusion|epochs)\.csv and 1 more differ$", cnn)
    assert explanation[0] == NO_EVIDENCE


def test_a_base_other_than_head_is_named(plain: Path) -> None:
    set_errors(plain, "mlp64", OTHER)
    commit = run(plain, "git", "rev-parse", "HEAD").strip()
    explanation = verify(plain, "main").splitlines()[2:]
    assert explanation[0] == NO_EVIDENCE.replace("HEAD", "main")
    assert explanation[1].endswith(f"type `git checkout {commit} -- cards dvc.lock metrics plots`.")
    assert "git stash" not in "".join(explanation)


@pytest.mark.parametrize("errors", [OTHER, MANY])
def test_changed_code_or_parameters_explain_a_difference(plain: Path, errors: list[set[int]]) -> None:
    set_errors(plain, "mlp64", errors)
    edit(plain / "params.yaml", train__seeds=[7, 8, 9])
    record(plain)
    *_, reason, advice = verify(plain, "--after-repro").splitlines()
    assert reason == f"{EXPECTED}params.yaml changed."
    assert advice == "To keep the results, commit cards/, dvc.lock, metrics/ and plots/ with the change."

    (plain / "src/digits/new.py").touch()
    with (plain / "dvc.yaml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert f"\n{EXPECTED}dvc.yaml, params.yaml and src/digits/new.py changed.\n" in verify(plain, "--after-repro")
    for name in ("core/errors.py", "core/paths.py"):
        (plain / "src/digits" / name).write_text("", "utf-8")
    record(plain)
    assert verify(plain, "--after-repro").splitlines()[-2] == (
        f"{EXPECTED}dvc.yaml, params.yaml, src/digits/core/errors.py and 2 more changed."
    )


def test_unchanged_results_of_changed_code_have_the_same_bytes(plain: Path) -> None:
    (plain / "src/digits/new.py").touch()
    assert verify(plain, "--after-repro").splitlines(keepends=True)[2:] == [SAME]


def result(*errors: int) -> Result:
    """Return a result whose seeds misclassify the first images of 1000."""
    return Result(list(errors), (np.arange(1000) < np.array(errors)[:, np.newaxis]).sum(axis=0))


def test_the_results_agree_no_better_than_the_variant_that_agrees_least() -> None:
    here = {"same": result(20, 22), "close": result(20, 23), "far": result(200, 220)}
    verdicts = comparison.compare({name: (result(20, 22), side) for name, side in here.items()})
    variants = {
        name: Comparison(["errors.csv"] if name != "same" else [], side, result(20, 22), verdicts[name])
        for name, side in here.items()
    }
    assert [variant.agreement for variant in variants.values()] == list(Agreement)
    base = Revision(Path(), "HEAD", "0" * 40)
    for count, agreement in enumerate(Agreement, 1):
        first = dict(list(variants.items())[:count])
        assert Verification(base, first, []).agreement is agreement
        assert Verification(base, dict(reversed(first.items())), []).agreement is agreement


def simulate_another_processor(folder: Path) -> None:
    """Make the results of mlp64 those of another processor: up to date for DVC, with other bytes than in Git.

    Each seed misclassifies as many images as before, but a few other ones.
    """
    model = folder / "models/mlp64/weights.npz"
    content = model.read_bytes()
    model.unlink()  # it may be a link to the cache
    model.write_bytes(content + b"\0")
    errors = json.loads((folder / "metrics/variants/mlp64.json").read_text("utf-8"))["test"]["errors"]["values"]
    set_errors(folder, "mlp64", [range(seed, seed + count) for seed, count in enumerate(errors)])
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
    assert f"\n{NO_EVIDENCE}\n" in output
    run(cached, *advised(output, "git checkout"))
    assert run(cached, "git", "status", "--porcelain") == ""
    # The models stay those of this machine, as the explanation says.
    assert "  train@mlp64: changed outs: models/mlp64: modified\n" in verify(cached, fails=True)
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


def test_parameters_without_a_run_get_no_verdict_and_fail(plain: Path) -> None:
    edit(plain / "params.yaml", models__mlp64__units=[512])
    output = verify(plain, fails=True)
    assert output.startswith(f"{STALE_HERE}\n")
    assert "\n  train@mlp64: changed deps: params.yaml: models.mlp64 modified\n" in output
    assert "train@cnn" not in output
    assert "same bytes" not in output
    assert verify(plain, "--after-repro") == output


def test_code_and_outputs_of_no_run_get_no_verdict_and_fail(plain: Path) -> None:
    (plain / "src/digits/stages/analyze.py").write_text("", "utf-8")
    (plain / "plots/variants/cnn/errors.png").unlink()
    output = verify(plain, fails=True)
    assert "\n  analyze@mlp64: changed deps: src/digits/stages/analyze.py: modified\n" in output
    assert "\n  analyze@cnn: changed outs: plots/variants/cnn/errors.png: deleted\n" in output
    assert "committed: " not in output


def test_a_stage_after_which_the_run_failed_gets_no_verdict(cached: Path) -> None:
    with (cached / "src/digits/stages/evaluate.py").open("a", encoding="utf-8") as file:
        file.write("\nraise ValueError('broken')\n")
    edit(cached / "params.yaml", train__seeds=[2, 3])
    run(cached, "dvc", "repro", "train@mlp64")
    run(cached, "dvc", "repro", "evaluate@mlp64", fails=True)
    output = verify(cached, fails=True)
    assert output.startswith(f"{STALE_HERE}\n")
    assert "\n  evaluate@mlp64: changed deps: models/mlp64: modified\n" in output


def test_committed_results_of_other_parameters_get_no_verdict(plain: Path) -> None:
    edit(plain / "params.yaml", models__mlp64__units=[512])
    run(plain, "git", "commit", "-qam", "Change a parameter only")
    output = verify(plain, fails=True)
    assert output.startswith(
        "There is no verdict, because the results in HEAD are not of the code, the parameters and the data in it: name "
        "another revision. DVC finds:\n"
    )
    assert output.count("\n  train@mlp64: changed deps: params.yaml: models.mlp64 modified\n") == 2
    assert verify(plain, "HEAD~1", fails=True).startswith(f"{STALE_HERE}\n")


@pytest.mark.parametrize("name", ["metrics/summary.json", "dvc.lock"])
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
    assert "this folder is not a Git repository" in output
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
