"""One trial of a sweep: a DVC experiment that runs in a clone and is pushed to the repository it was cloned from.

A worker of the sweep starts this module as a program for each trial.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from digits.core.errors import UserError
from digits.versioning.git import git, git_succeeds
from digits.versioning.repository import open_repository


@dataclass(frozen=True)
class Trial:
    """The name of a DVC experiment and its settings, as for `dvc exp run -S`."""

    name: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """The commit that trials run and the repository that they are cloned from and push to."""

    url: str  # or path
    commit: str
    cache: str | None  # the DVC cache that trials share; None: they use the DVC remote
    author: tuple[str, str]  # name and e-mail address, for the commits of the experiments
    threads: int  # of each trial

    @property
    def ref_prefix(self) -> str:
        """The beginning of the Git references of this commit's experiments."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/"

    def ref(self, trial: Trial) -> str:
        """Return the Git reference of a trial's experiment."""
        return self.ref_prefix + trial.name


def clone(folder: Path, source: Source, cache: Path) -> None:
    """Clone the source without checking out any file, and configure the clone's DVC cache.

    Args:
        folder: where to put the clone; it must not exist.
        source: what to clone.
        cache: the DVC cache to use if the source shares none.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    git(folder.parent, "clone", "--quiet", "--no-checkout", source.url, str(folder))
    name, address = source.author
    git(folder, "config", "user.name", name)
    git(folder, "config", "user.email", address)
    # By default, DVC keeps some state of a repository outside of it, which would outlive the clone.
    settings = f"[core]\n    site_cache_dir = {folder}/.dvc/tmp/site\n[cache]\n    dir = {source.cache or cache}\n"
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config.local").write_text(settings, encoding="utf-8")


def run(folder: Path, trial: Trial, source: Source) -> bool:
    """Run a trial in a clone, unless the source has its experiment already.

    The experiment's reference is pushed last, after its data, so that an experiment that is listed is complete. If two
    clones run the same trial at once, Git keeps the first that is pushed.

    Args:
        folder: the clone; no other trial may be running in it.
        trial: what to run.
        source: the repository that was cloned.

    Returns:
        Whether the trial had to run.

    Raises:
        UserError: Git, DVC or a stage failed; a stage has printed its own message.
    """
    ref = source.ref(trial)
    if git(folder, "ls-remote", "origin", ref):
        git(folder, "fetch", "--quiet", "origin", f"+{ref}:{ref}")
        return False
    if not git_succeeds(folder, "cat-file", "-e", f"{source.commit}^{{commit}}"):
        git(folder, "fetch", "--quiet", "origin", source.commit)
    git(folder, "checkout", "--quiet", "--force", "--detach", source.commit)
    git(folder, "update-ref", "-d", ref)
    shared = source.cache is not None
    with open_repository(folder) as repo:
        repo.experiments.run(params=trial.settings, name=trial.name, pull=not shared, allow_missing=True)
        if not shared:
            repo.push(revs=[git(folder, "rev-parse", ref).strip()], workspace=False)
        repo.experiments.push("origin", [trial.name])
    return True


def arguments(trial: Trial, source: Source) -> list[str]:
    """Return the arguments of the `python` command that runs a trial in the current folder."""
    return ["-m", __name__, json.dumps({"trial": asdict(trial), "source": asdict(source)})]


def main() -> None:
    """Run the trial that the command line describes in the current folder."""
    request = json.loads(sys.argv[1])
    try:
        run(Path.cwd(), Trial(**request["trial"]), Source(**request["source"]))
    except UserError as error:
        sys.exit(f"digits: {error}")


if __name__ == "__main__":
    main()
