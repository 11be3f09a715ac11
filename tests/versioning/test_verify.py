"""`digits verify`: what it says of results, and what it finds in a clone with results of the small data set."""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
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

SAME = "The results have the same bytes as those committed in HEAD."
NO_EVIDENCE = (
    "The bytes differ from those committed in HEAD, as on another kind of processor, but there is no evidence that the "
    "models do: nothing is wrong."
)
DIFFERS = (
    "The results differ from those committed in HEAD by more than other seeds or another kind of processor explain, "
    "although the code and the parameters are those of HEAD.\n"
    "Possible causes: the results in HEAD were made by other code, the libraries are not those of requirements.txt "
    "(`make repro` installs them), or a file is damaged (`digits repair` finds it)."
)
EXPECTED = "Different results are expected, because the code or the parameters are not those of HEAD: "
STALE_HERE = (
    "There is no verdict, because the results here are not of the code, the parameters and the data here: type "
    "`dvc repro`. DVC finds:"
)
NOT_COMPARED = "The results were not compared with committed ones: "
STALE_MODEL = "\n  train@mlp64: changed deps: params.yaml: models.mlp64 modified\n"
CHANGED_MODEL = "  train@mlp64: changed outs: models/mlp64: modified\n"
HEAD = Revision(Path(), "HEAD", "0" * 40)
# The images that each of five seeds misclassifies.
FEW = [{*range(20), *range(100, 100 + seed)} for seed in range(5)]
MANY = [images | set(range(20, 60)) for images in FEW]


def result(*errors: int) -> Result:
    """Return a result whose seeds misclassify the first images of 1000."""
    return Result(list(errors), (np.arange(1000) < np.array(errors)[:, np.newaxis]).sum(axis=0))


def compared(*errors: int, outputs: Sequence[str] = ("a.csv",)) -> Comparison:
    """Return the comparison of seeds with so many errors, or of no results, with committed ones of 20 and 22."""
    committed, here = result(20, 22), result(*errors) if errors else None
    verdict = comparison.compare({"a": (committed, here)})["a"] if here else None
    return Comparison(list(outputs), here, committed, verdict)


@pytest.mark.parametrize(
    ("errors", "outputs", "here", "agreement"),
    [
        ([20, 22], "", "97.90 ± 0.14 %", "same bytes"),
        ([20, 22], "a", "97.90 ± 0.14 %", "the same errors, but a differs"),
        ([20, 22], "ab", "97.90 ± 0.14 %", "the same errors, but a and 1 more differ"),
        ([20, 23], "a", "97.85 ± 0.21 %", "no evidence of a difference: −0.05 points (#)"),
        ([200, 220], "a", "79.00 ± 1.41 %", "differs: −18.90 points (#)"),
        ([0, 0], "a", "100.00 ± 0.00 %", "differs: +2.10 points (#)"),
        ([210], "a", "79.00 %", "differs: −18.90 points (#), one seed: by the images alone"),
        ([], "a", "no comparable results", "differs"),
    ],
)
def test_a_comparison_is_one_line(errors: list[int], outputs: str, here: str, agreement: str) -> None:
    text = re.sub(r"\([−+]\d+\.\d\d to [−+]\d+\.\d\d\)", "(#)", str(compared(*errors, outputs=outputs)))
    assert text == f"{here} here, 97.90 ± 0.14 % as committed: {agreement}"


def test_the_results_agree_no_better_than_the_variant_that_agrees_least() -> None:
    variants = {"same": compared(20, 22, outputs=()), "close": compared(20, 23), "far": compared(200, 220)}
    assert [variant.agreement for variant in variants.values()] == list(Agreement)
    for count, agreement in enumerate(Agreement, 1):
        first = dict(list(variants.items())[:count])
        for found in (Verification(HEAD, first, []), Verification(HEAD, dict(reversed(first.items())), [])):
            assert found.agreement is agreement
            assert found.passed == (agreement is not Agreement.DIFFERS)


def test_the_explanation_says_what_is_the_case_and_what_to_type() -> None:
    same, close, far = ({"a": found} for found in (compared(20, 22, outputs=()), compared(20, 23), compared(200, 220)))
    assert Verification(HEAD, same, ["src/a.py"]).explanation() == SAME
    assert Verification(HEAD, far, []).explanation() == DIFFERS
    assert Verification(HEAD, close, []).explanation().startswith(f"{NO_EVIDENCE}\n")
    other = Verification(Revision(Path(), "main", "1" * 40), close, []).explanation()
    assert other.startswith(f"{NO_EVIDENCE.replace('HEAD', 'main')}\n")
    assert f"type `git checkout {'1' * 40} -- cards dvc.lock metrics plots`." in other
    assert "git stash" not in other
    stale = Verification(HEAD, {}, [], {"HEAD": ["a: frozen"], "workspace": ["a: changed command", "b: frozen"]})
    assert not stale.passed
    assert stale.explanation() == (
        "There is no verdict, because the results in HEAD are not of the code, the parameters and the data in it: name "
        f"another revision. DVC finds:\n  a: frozen\n{STALE_HERE}\n  a: changed command\n  b: frozen"
    )
    for names, listed in {"a": "a", "ab": "a and b", "abc": "a, b and c", "abcde": "a, b, c and 2 more"}.items():
        assert Verification(HEAD, far, list(names)).explanation() == (
            f"{EXPECTED}{listed} changed.\n"
            "To keep the results, commit cards/, dvc.lock, metrics/ and plots/ with the change."
        )


@pytest.fixture
def plain(clone: Path, tmp_path: Path) -> Path:
    """A clone without the DVC cache, with committed results of five seeds for mlp64, at most 24 errors each."""
    run(tmp_path, "git", "clone", "-q", str(clone), "plain")
    set_errors(tmp_path / "plain", "mlp64", FEW)
    run(tmp_path / "plain", "git", "commit", "-qam", "Add seeds")
    return tmp_path / "plain"


@pytest.fixture
def changed(clone: Path) -> Iterator[Path]:
    """The clone with the DVC cache and another model of mlp64, which is put back in order after the test."""
    model = clone / "models/mlp64/weights.npz"
    content = model.read_bytes()
    model.unlink()  # it may be a link to the cache
    model.write_bytes(content + b"\0")
    yield clone
    run(clone, "git", "checkout", "-q", ".")
    with contextlib.chdir(clone), Repo() as repo:
        repo.checkout(force=True)


def verify(folder: Path, *words: str, fails: bool = False) -> str:
    return call(folder, "verify", *words, fails=fails)


def is_line(start: str, text: str) -> bool:
    return text.startswith(start) and text.count("\n") == 1


def test_unchanged_results_have_the_same_bytes(plain: Path) -> None:
    # The one test that starts the program itself. Of 397 images, 20 to 24 are wrong.
    mlp64, cnn, explanation = run(plain, "digits", "verify").splitlines()
    assert mlp64 == "mlp64  94.46 ± 0.40 % here, 94.46 ± 0.40 % as committed: same bytes"
    assert re.fullmatch(r"cnn    (\S+ ± \S+ %) here, \1 as committed: same bytes", cnn)
    assert explanation == SAME


def test_a_difference_fails_except_after_repro(plain: Path) -> None:
    set_errors(plain, "mlp64", MANY)
    output = verify(plain, fails=True)
    assert output.startswith("mlp64  84.38 ± 0.40 % here, 94.46 ± 0.40 % as committed: differs: −10.08 points (−1")
    assert output.endswith(f": same bytes\n{DIFFERS}\n")
    assert verify(plain, "--after-repro") == output
    (plain / "src/digits/new.py").touch()
    edit(plain / "params.yaml", train__threads=2)
    record(plain)
    assert f"\n{EXPECTED}params.yaml and src/digits/new.py changed.\n" in verify(plain, "--after-repro")
    (plain / "plots/variants/mlp64/errors.csv").write_text("index,label,predicted\n8,5,6\n", "utf-8")  # another format
    record(plain)
    output = verify(plain, "--after-repro")
    assert output.startswith("mlp64  no comparable results here, 94.46 ± 0.40 % as committed: differs\n")


def test_the_committed_margin_counts(plain: Path) -> None:
    edit(plain / "params.yaml", review__margin=20)
    set_errors(plain, "mlp64", MANY)
    assert ": differs: −10.08 points" in verify(plain, fails=True)
    run(plain, "git", "commit", "-qam", "Widen the margin")
    set_errors(plain, "mlp64", FEW)
    assert ": no evidence of a difference: +10.08 points" in verify(plain)


def advised(output: str, program: str) -> list[str]:
    """Return the command of a program that the output advises to type."""
    (command,) = re.findall(rf"`({program}[^`]*)`", output)
    return shlex.split(command)


def test_the_advised_commands_put_the_committed_results_back_and_those_of_this_machine(changed: Path) -> None:
    # Those of another processor: up to date for DVC, with as many errors of each seed as in Git, but a few other ones.
    errors = json.loads((changed / "metrics/variants/mlp64.json").read_text("utf-8"))["test"]["errors"]["values"]
    set_errors(changed, "mlp64", [range(seed, seed + count) for seed, count in enumerate(errors)])
    with contextlib.chdir(changed), Repo() as repo:
        repo.commit(force=True)
    output = verify(changed, "--after-repro")
    assert f"\n{NO_EVIDENCE}\n" in output
    run(changed, *advised(output, "git stash push"))
    assert run(changed, "git", "status", "--porcelain") == ""
    run(changed, *advised(output, "git stash pop"))
    assert call(changed, "check-lock") == ""
    run(changed, *advised(output, "git checkout"))
    assert run(changed, "git", "status", "--porcelain") == ""
    # The models stay those of this machine, as the explanation says.
    assert "models/ and data/predictions/ stay as computed here: `dvc status` and `digits check-lock`" in output
    assert CHANGED_MODEL in verify(changed, fails=True)
    assert CHANGED_MODEL in call(changed, "check-lock", fails=True)
    with contextlib.chdir(changed), Repo() as repo:
        assert "train@mlp64" in repo.status()
        rerun = repo.reproduce("train@mlp64", single_item=True, dry=True)
    assert [stage.addressing for stage in rerun] == ["train@mlp64"]


def test_parameters_code_and_outputs_of_no_run_get_no_verdict_and_fail(plain: Path) -> None:
    edit(plain / "params.yaml", models__mlp64__units=[512])
    (plain / "src/digits/stages/analyze.py").write_text("", "utf-8")
    (plain / "plots/variants/cnn/errors.png").unlink()
    output = verify(plain, fails=True)
    assert output.startswith(f"{STALE_HERE}\n")
    assert STALE_MODEL in output
    assert "\n  analyze@mlp64: changed deps: src/digits/stages/analyze.py: modified\n" in output
    assert "\n  analyze@cnn: changed outs: plots/variants/cnn/errors.png: deleted\n" in output
    assert "train@cnn" not in output
    assert "committed: " not in output
    assert verify(plain, "--after-repro") == output


def test_a_stage_after_which_the_run_failed_gets_no_verdict(changed: Path) -> None:
    with contextlib.chdir(changed), Repo() as repo:  # as `dvc repro` does after a stage
        repo.commit("train@mlp64", force=True)
    output = verify(changed, fails=True)
    assert output.startswith(f"{STALE_HERE}\n")
    assert "\n  evaluate@mlp64: changed deps: models/mlp64: modified\n" in output


@pytest.mark.parametrize("name", ["metrics/summary.json", "dvc.lock"])
def test_a_missing_or_damaged_file_or_revision_is_one_line(plain: Path, name: str) -> None:
    for content in (b"variant\nmlp64\n", b"\xff\xfe"):
        (plain / name).write_bytes(content)
        assert is_line(f"digits: 'workspace' has a {name} that the pipeline did not write: ", verify(plain, fails=True))
    (plain / name).unlink()
    assert is_line("digits: 'nowhere' is no branch", verify(plain, "nowhere", fails=True))
    missing = verify(plain, fails=True)
    assert is_line(f"digits: 'workspace' has no {name}: ", missing)
    assert verify(plain, "--after-repro") == missing.replace("digits: ", NOT_COMPARED, 1)


def test_after_repro_missing_committed_results_are_one_line_and_no_failure(plain: Path) -> None:
    for command, message in (
        ("git rm -qr --cached metrics && git commit -qm Remove", "'HEAD' has no metrics/summary.json: name a revision"),
        ("rm -rf .git && git init -q", "'HEAD' is no branch"),
        ("rm -rf .git", "this folder is not a Git repository"),
    ):
        run(plain, "sh", "-c", command)
        assert is_line(f"{NOT_COMPARED}{message}", verify(plain, "--after-repro"))
