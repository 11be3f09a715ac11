"""One trial in a clone."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import run

from digits.sweep import trial as trials
from digits.sweep.trial import Source, Trial
from digits.versioning.git import git

TRIAL = Trial("square-3", ("x=3",))


def test_a_clone_runs_a_later_commit_too_and_nothing_twice(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_trial(name: str, source: Source) -> bool:
        monkeypatch.chdir(tmp_path / name)
        return trials.run(tmp_path / name, TRIAL, source)

    for name in ("one", "two"):
        trials.clone(tmp_path / name, source, tmp_path / "cache")
    folder = Path(source.url)
    (folder / "params.yaml").write_text("x: 2\nz: 1\n", "utf-8")
    run(folder, "git", "commit", "-qam", "Add a parameter")
    later = replace(source, commit=git(folder, "rev-parse", "HEAD").strip())
    assert run_trial("one", source)
    assert run_trial("one", later)
    commit = git(folder, "rev-parse", later.ref(TRIAL))
    assert not run_trial("two", later)
    assert git(folder, "rev-parse", later.ref(TRIAL)) == commit
    assert git(tmp_path / "two", "rev-parse", later.ref(TRIAL)) == commit
