"""`digits <command>`: parses and prints, nothing else."""

import argparse
import errno
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from digits import paths
from digits.errors import UserError

STAGES = {
    "params": "check params.yaml",
    "download": "bring the data",
    "preprocess": "make arrays and the split",
    "neighbors": "find the nearest training images",
    "train": "train a variant",
    "evaluate": "test a variant at every epoch of the grid",
    "analyze": "analyse a variant's errors",
    "compare": "set the variants and the published numbers side by side",
}
REMEDIES = {
    errno.ENOSPC: ": free some room, then type `dvc repro`",
    errno.EROFS: ": the repository's folder must be one that can be written",
    errno.EACCES: ": the repository's folder must be one that can be written",
}
OF_A_VARIANT = ("train", "evaluate", "analyze")


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a user's mistake becomes one line on standard error and exit status 1."""
    given = vars(_parser().parse_args(arguments))
    command = given.pop("command")
    try:
        if command == "drift":
            imported("digits.drift").check(Path())
        elif command == "repair":
            imported("digits.repair").check(Path())
        elif command == "experiments":
            _experiments()
        elif command == "review":
            _review(**given)
        elif command == "sweep":
            _sweep(**given)
        elif command == "readme":
            imported("digits.readme").update(paths.README, Path())
        elif command == "verify":
            _verify(**given)
        else:
            with _interruptible():
                imported(f"digits.stages.{command}").run(**given)
    except UserError as error:
        sys.exit(f"digits: {error}")
    except OSError as error:  # a full disk, a folder that can't be written
        sys.exit(f"digits: {error.filename or command}: {error.strerror or error}{REMEDIES.get(error.errno or 0, '')}")
    except KeyboardInterrupt:
        sys.exit("digits: interrupted; `dvc repro` starts again with the stage that was running")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the block with KeyboardInterrupt, whatever it has become on its way.

    TensorFlow, interrupted while it makes a tensor, forgets why and raises SystemError.
    """
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in a process that is to ignore it
    if own:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def imported(name: str) -> Any:
    """Import a module only now, so that a command does not wait for what only another one needs.

    What an import makes is no garbage: looking through it for some takes a third of the time in which TensorFlow
    starts, and half a second at the end.
    """
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _experiments() -> None:
    modules = (imported(f"digits.{name}") for name in ("experiments", "files", "params", "published"))
    experiments, files, params, published = modules
    wanted = experiments.load(paths.EXPERIMENTS)
    source = params.read(paths.PUBLISHED, published.Published)
    commit = experiments.run(Path(), wanted)
    files.write_json(paths.EXPERIMENT_METRICS, experiments.results(Path(), wanted, source, commit))


def _review(base: str, head: str | None, *, fail_if_worse: bool) -> None:
    pages, review = imported("digits.pages"), imported("digits.review")
    result = review.review(Path(), base, head)
    pages.write(result, paths.REVIEW, paths.TEST)
    print(pages.summary(result))
    print(f"written: {paths.REVIEW}/index.html, {paths.REVIEW}/index.md")
    if fail_if_worse and result.is_worse:
        sys.exit(1)


def _sweep(
    settings: list[str], name: str, address: str | None, workers: int | None, git_remote: str | None, *, no_cache: bool
) -> None:
    try:
        sweep = imported("digits.sweep")
    except ModuleNotFoundError as error:
        raise UserError(f"sweep needs {error.name}: type `make cluster`") from None
    standings = imported("digits.standings")
    trials = sweep.grid(settings, name)
    result = sweep.run(sweep.Sweep(Path(), trials, address, workers, git_remote, pull_cache=not no_cache))
    if result.scores:
        print(standings.write(trials, result.scores, sweep.FOLDER / name))
    if result.failed:
        raise UserError(f"{len(result.failed)} of {len(trials)} trials failed; what each printed last stands above")


def _verify(base: str) -> None:
    verify = imported("digits.verify")
    compared = verify.verify(Path(), base)
    for variant, comparison in compared.items():
        print(f"{variant}: {comparison}")
    if any(comparison.word is verify.Word.OUTSIDE for comparison in compared.values()):
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="digits", description="Work on the pipeline; `dvc repro` runs the stages needed."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")
    for stage, text in STAGES.items():
        command = commands.add_parser(stage, help=f"stage: {text}", description=text)
        if stage in OF_A_VARIANT:
            command.add_argument("variant", help="an entry under models: in params.yaml")
    commands.add_parser("drift", help="fail if dvc.lock is of other code, parameters or results")
    commands.add_parser("repair", help="delete damaged files of the DVC cache, so that DVC makes them anew")
    commands.add_parser("experiments", help="run experiments.yaml, and write metrics/experiments.json")
    commands.add_parser("readme", help="write the tables of README.md from metrics/ and benchmarks/")
    command = commands.add_parser("review", help="say whether a change to the results is real, in review/")
    command.add_argument("base", nargs="?", default="main", help="branch, tag, commit or experiment (default: main)")
    command.add_argument("--head", metavar="REV", help="likewise, instead of the workspace")
    command.add_argument("--fail-if-worse", action="store_true", help="exit 1 if a variant is significantly worse")
    command = commands.add_parser("sweep", help="run a grid of experiments on a Dask cluster: docs/sweeps.md")
    command.add_argument(
        "-S",
        "--set-param",
        dest="settings",
        action="append",
        required=True,
        metavar="[FILE:]KEY=VALUES",
        help="as for `dvc exp run --queue`: train.seed=0,1,2",
    )
    command.add_argument("--name", default="sweep", metavar="PREFIX", help="of the experiments' names (default: sweep)")
    command.add_argument("--address", help="of a Dask scheduler, tcp://host:port; else workers on this machine")
    command.add_argument("--workers", type=int, metavar="N", help="on this machine (default: cores / train.threads)")
    command.add_argument(
        "--git-remote", metavar="NAME", help="that carries clones and experiments (default: origin with --address)"
    )
    command.add_argument(
        "--no-cache", action="store_true", help="bring no models and predictions here, as in dvc exp pull"
    )
    command = commands.add_parser("verify", help="fail if a run's results are not the committed ones, within tolerance")
    command.add_argument("base", nargs="?", default="HEAD", help="branch, tag, commit or experiment (default: HEAD)")
    return parser
