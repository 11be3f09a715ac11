"""What `mismatches` finds in the workspace and in commits of a clone with the small data set."""

import hashlib
import re
from pathlib import Path

import pytest
from support import edit, run

from digits.core import paths
from digits.versioning import lock, revisions

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("verify")]


@pytest.fixture
def fresh(clone: Path, tmp_path: Path) -> Path:
    """A clone without the DVC cache."""
    run(tmp_path, "git", "clone", "-q", str(clone), "fresh")
    return tmp_path / "fresh"


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "-qm", "Change")


def both(folder: Path) -> list[str]:
    """Commit the files of a folder, and return the differences of the commit, which are those of the workspace."""
    commit(folder)
    lines = lock.mismatches(folder, "HEAD")
    assert lock.mismatches(folder) == lines
    return lines


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_a_commit_of_the_pipeline_has_no_differences_and_an_earlier_one_keeps_its_own(clone: Path) -> None:
    assert lock.mismatches(clone, "HEAD") == []
    assert lock.mismatches(clone, "HEAD~1") != []


def test_changed_parameters_code_commands_and_results_are_named(fresh: Path) -> None:
    edit(fresh / "params.yaml", models__cnn__shift=2)
    (fresh / "src/digits/stages/analyze.py").write_text("", "utf-8")
    (fresh / "src/digits/evaluation/new.py").write_text("", "utf-8")
    replace(fresh / "dvc.yaml", "cmd: python src neighbors", "cmd: python -B src neighbors")
    (fresh / "metrics/variants/mlp64.json").write_text("{}", "utf-8")
    lines = both(fresh)
    assert "train@cnn: changed deps: params.yaml: models.cnn modified" in lines
    assert "analyze@mlp64: changed deps: src/digits/stages/analyze.py: modified" in lines
    assert "evaluate@mlp64: changed deps: src/digits/evaluation: modified" in lines
    assert "evaluate@mlp64: changed outs: metrics/variants/mlp64.json: modified" in lines
    assert "neighbors: changed command" in lines
    assert not any(line.startswith("train@mlp64") for line in lines)


def test_a_stage_that_has_not_read_what_another_wrote_is_named_without_the_cache(fresh: Path) -> None:
    path = fresh / "dvc.lock"
    text = path.read_text("utf-8")
    pattern = r"(\n  train@mlp64:\n(?:    .*\n)*?    outs:\n    - path: models/mlp64\n +hash: md5\n +md5: )\w{32}"
    changed, count = re.subn(pattern, rf"\g<1>{'0' * 32}", text)
    assert count == 1
    path.write_text(changed, "utf-8")
    assert both(fresh) == ["evaluate@mlp64: changed deps: models/mlp64: not as the stage that writes it recorded"]


def test_a_file_in_a_folder_of_the_cache_is_compared_with_the_list_of_its_files(clone: Path, fresh: Path) -> None:
    replace(fresh / "dvc.lock", hashlib.md5((clone / "data/processed/test.npz").read_bytes()).hexdigest(), "a" * 32)
    assert both(fresh) == []  # taken on trust
    (fresh / ".dvc/config.local").write_text(f"[cache]\n    dir = {clone / '.dvc/cache'}\n", "utf-8")
    reason = "changed deps: data/processed/test.npz: not as the stage that writes it recorded"
    lines = lock.mismatches(fresh, "HEAD")
    assert {f"evaluate@{name}: {reason}" for name in ("mlp64", "cnn")} < set(lines)


def test_a_link_that_leads_nowhere_is_stale(fresh: Path) -> None:
    link = fresh / "src/digits/stages/train.py"
    link.unlink()
    link.symlink_to(link.name)
    commit(fresh)
    for side in (revisions.workspace(fresh), revisions.resolve(fresh, "HEAD")):
        assert lock.stale(side, [])


def test_a_stage_that_is_frozen_or_reads_from_a_server_is_named_without_a_connection(fresh: Path) -> None:
    replace(fresh / "dvc.yaml", "- data/published.yaml", "- http://127.0.0.1:9/published.yaml")
    replace(fresh / "dvc.yaml", "    cmd: python src compare\n", "    cmd: python src compare\n    frozen: true\n")
    commit(fresh)
    assert lock.mismatches(fresh, "HEAD") == [
        "compare: frozen: DVC does not check it",
        "compare: changed deps: http://127.0.0.1:9/published.yaml: not in this repository",
    ]


def test_results_that_no_stage_writes_are_stale(fresh: Path) -> None:
    here = revisions.workspace(fresh)
    assert lock.stale(here, ["mlp64", "cnn"]) == []
    assert lock.stale(here, ["other"]) == [
        "metrics/variants/other.json: no stage writes it",
        "plots/variants/other/errors.csv: no stage writes it",
    ]
    (fresh / "dvc.yaml").unlink()
    commit(fresh)
    for side in (here, revisions.resolve(fresh, "HEAD")):
        assert f"{paths.SUMMARY}: no stage writes it" in lock.stale(side, [])


def test_files_that_dvc_cannot_read_are_stale(fresh: Path) -> None:
    (fresh / "dvc.lock").write_text("stages: [", "utf-8")
    commit(fresh)
    for side in (revisions.workspace(fresh), revisions.resolve(fresh, "HEAD")):
        (line,) = lock.stale(side, [])
        assert "dvc.lock" in line
