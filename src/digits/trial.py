"""One trial of a sweep: a DVC experiment that is run in a clone and pushed to where the clone came from."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digits import curves, paths
from digits.errors import UserError
from digits.files import write_json
from digits.repository import opened
from digits.revisions import Revision

Score = dict[str, Any]  # of one variant: validation_accuracy (None without validation images), accuracy, loss, …


@dataclass(frozen=True)
class Trial:
    """The name of a DVC experiment, and its settings as after `dvc exp run -S`."""

    name: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """Where a trial's clone comes from and its experiment goes to."""

    git: str  # URL or path of the Git remote
    commit: str
    cache: str | None  # the DVC cache, where it is shared; None: the DVC remote carries the data
    author: tuple[str, str]  # name and e-mail address, of the experiment's commit
    threads: int  # of a trial

    def ref(self, trial: Trial) -> str:
        """Return the Git reference of a trial's experiment."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{trial.name}"


def git(folder: Path, *words: str) -> str:
    """Run Git in a folder and return what it printed; raise UserError with its own message where it fails."""
    result = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607
    if result.returncode:
        raise UserError(f"`git {' '.join(words)}`: {' '.join(result.stderr.split())}")
    return result.stdout


def clone(folder: Path, source: Source, cache: Path) -> None:
    """Clone the Git remote, with no files yet, and give the clone a DVC cache.

    Args:
        folder: a new one.
        source: what to clone.
        cache: the host's own DVC cache, for a source that shares none.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    git(folder.parent, "clone", "--quiet", "--no-checkout", source.git, str(folder))
    name, address = source.author
    git(folder, "config", "user.name", name)
    git(folder, "config", "user.email", address)
    # DVC keeps notes about a repository outside of it, where they would outlive the clone.
    settings = f"[core]\n    site_cache_dir = {folder}/.dvc/tmp/site\n[cache]\n    dir = {source.cache or cache}\n"
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config.local").write_text(settings, encoding="utf-8")


def run(folder: Path, trial: Trial, source: Source) -> bool:
    """Run a trial in a clone, unless its experiment is at the source already.

    What DVC caches goes to the DVC remote first and the experiment's reference to the Git remote last, so that an
    experiment which is listed is whole. Of two that run one trial at once, the first to push it is kept.

    Args:
        folder: the clone, in which no other trial runs.
        trial: what to run.
        source: where the clone comes from.

    Returns:
        Whether it was run.

    Raises:
        UserError: Git or DVC failed, or a stage, which has written its own message.
    """
    ref = source.ref(trial)
    if git(folder, "ls-remote", "origin", ref):
        git(folder, "fetch", "--quiet", "origin", f"+{ref}:{ref}")
        return False
    if not _has(folder, source.commit):
        git(folder, "fetch", "--quiet", "origin", source.commit)
    git(folder, "checkout", "--quiet", "--force", "--detach", source.commit)
    git(folder, "update-ref", "-d", ref)
    shared = source.cache is not None
    with opened(folder) as repo:
        repo.experiments.run(params=trial.settings, name=trial.name, pull=not shared, allow_missing=True)
        if not shared:
            repo.push(revs=[git(folder, "rev-parse", ref).strip()], workspace=False)
        repo.experiments.push("origin", [trial.name])
    return True


def scores(root: Path, commit: str) -> dict[str, Score]:
    """Return what an experiment came to, by variant.

    Args:
        root: the folder of dvc.yaml.
        commit: the experiment's.
    """
    revision = Revision(root, commit, commit)
    summary = json.loads(revision.text(paths.SUMMARY) or "{}")
    result = {}
    for variant, figures in summary.items():
        validation = curves.columns(revision.text(paths.Variant(variant).training) or "").get("val_accuracy", {})
        result[variant] = {
            "validation_accuracy": validation.get(figures["epochs"]),
            "accuracy": figures["accuracy"],
            "loss": figures["loss"],
        }
    return result


def _has(folder: Path, commit: str) -> bool:
    command = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Run the trial that is described in a JSON file, in this folder, and write what came of it to another."""
    order, answer = (Path(word) for word in sys.argv[1:])
    wanted = json.loads(order.read_text("utf-8"))
    trial, source = Trial(**wanted["trial"]), Source(**wanted["source"])
    try:
        ran = run(Path.cwd(), trial, source)
    except UserError as error:
        sys.exit(f"digits: {error}")
    write_json(answer, {"ran": ran, "scores": scores(Path.cwd(), source.ref(trial))})


def order(trial: Trial, source: Source) -> str:
    """Return a trial as `main` reads it."""
    return json.dumps({"trial": asdict(trial), "source": asdict(source)})


if __name__ == "__main__":
    main()
