"""`digits <command>`: parses the command line and prints, nothing else.

Each function imports what its command needs, so that no command waits for the libraries of another.
"""

import argparse
import contextlib
import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from digits.core import paths
from digits.core.errors import UserError
from digits.versioning.location import Location, locate

ROOT = Path()  # the commands run in the root of the repository
REVISION = "branch, tag, commit or experiment"
STAGES = {
    "params": "check params.yaml",
    "download": "download the data",
    "preprocess": "make arrays and the split",
    "neighbors": "find the nearest training images",
    "train": "train a variant",
    "evaluate": "evaluate a variant at every checkpoint",
    "analyze": "analyse the errors of a variant",
    "stress": "test the variants on other digits",
    "compare": "compare the variants with each other and with the reports",
    "cards": "write the model cards",
}
VARIANT_STAGES = ("train", "evaluate", "analyze")
ADVICE = {
    errno.ENOSPC: ": free some space, then type `dvc repro`",
    errno.EROFS: ": the folder of the repository must be writable",
    errno.EACCES: ": the folder of the repository must be writable",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a mistake of the user becomes one line on standard error and exit status 1."""
    given = vars(_parser().parse_args(arguments))
    command: str = given.pop("command")
    run: Callable[..., None] = given.pop("run")
    try:
        location = locate(Path.cwd())
    except (UserError, OSError) as error:  # the latter: the folder has been deleted
        sys.exit(f"digits: {error}")
    try:
        with contextlib.chdir(location.root):
            run(location, **given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports it again at its end
        sys.exit(1)
    except UserError as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that is not writable
        message = f"{error.filename or command}: {error.strerror or error}{ADVICE.get(error.errno or 0, '')}"
    except KeyboardInterrupt:
        message = "interrupted; `dvc repro` starts again with the stage that was running"
    except _memory_errors():
        message = _out_of_memory(command, given)
    else:
        return
    sys.exit(f"digits: {location.message(message)}")


def _memory_errors() -> tuple[type[Exception], ...]:
    """Return Python's exception for too little memory, and that of TensorFlow if the command has imported it."""
    tensorflow = sys.modules.get("tensorflow")
    return (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)


def _out_of_memory(command: str, given: dict[str, Any]) -> str:
    ways = ["end other programs"]
    if command in {"train", "evaluate"}:
        ways.append("set the environment variable DIGITS_CORES to 1, so that one seed runs at a time")
    if command == "train":
        ways.append(f"set a smaller models.{given['variant']}.batch_size")
    return f"{command}: not enough memory: {', or '.join(ways)}"


class _Version(argparse.Action):
    """Prints the version. It is looked up only then, because `python src` needs no installation of the package."""

    def __init__(self, **given: Any) -> None:
        super().__init__(nargs=0, **given)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"digits {version('digits')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="digits", description="Work on the pipeline; `dvc repro` runs the stages that need to run."
    )
    parser.add_argument("--version", action=_Version, default=argparse.SUPPRESS, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="<command>")

    def add(name: str, run: Callable[..., None], text: str, kind: str = "", **more: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=kind + text, description=f"{text[0].upper()}{text[1:]}.", **more)
        command.set_defaults(run=run)
        return command

    for stage, text in STAGES.items():
        command = add(stage, partial(_stage, stage), text, "stage: ")
        if stage in VARIANT_STAGES:
            command.add_argument("variant", help="an entry under models in params.yaml")

    text = "fail unless dvc.lock matches the code, the parameters and the results"
    add("check-lock", _check_lock, text, aliases=["drift"])

    command = add(
        "checksums", _checksums, "print what download in params.yaml must say to use the IDX files in a folder"
    )
    command.add_argument("folder", metavar="FOLDER", help="four files with the names of MNIST's, plain or gzipped")

    add("repair", _repair, "delete damaged files of the DVC cache, so that DVC restores them")

    command = add(
        "verify", _verify, "compare the results with the committed ones, and fail if they differ or are of other code"
    )
    command.add_argument("base", nargs="?", default="HEAD", help=f"{REVISION} (default: HEAD)")
    command.add_argument("--after-repro", action="store_true", help="always exit with status 0, as `make repro` needs")

    command = add("review", _review, "write to review/ which results changed, and whether by more than chance")
    command.add_argument("base", nargs="?", default="main", help=f"{REVISION} (default: main)")
    command.add_argument("--head", metavar="REV", help=f"{REVISION} (default: the workspace)")
    command.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="exit with status 1 if a variant is significantly worse or cannot be compared (see docs/gate.md)",
    )
    command.add_argument(
        "--one-seed", action="store_true", help="let a verdict on a single seed, by the images alone, fail, too"
    )
    command.add_argument(
        "--allow-removed",
        dest="removed",
        metavar="VARIANT",
        action="append",
        default=[],
        help="let the head lack a variant",
    )
    for name, text in {
        "new-data": "let the test images differ",
        "fewer-seeds": "let the head have fewer seeds than the base",
        "no-base": "let the base lack results of its own that can be read",
    }.items():
        command.add_argument(f"--allow-{name}", dest=name.replace("-", "_"), action="store_true", help=text)

    add("experiments", _experiments, "run the experiments in experiments.yaml, and write metrics/experiments.json")

    command = add("sweep", _sweep, "run a grid of experiments on a Dask cluster (see docs/sweeps.md)")
    command.add_argument(
        "-S",
        "--set-param",
        dest="settings",
        action="append",
        required=True,
        metavar="[FILE:]KEY=VALUES",
        help="parameters as for `dvc exp run --queue`: models.mlp64.units=[32],[64]",
    )
    command.add_argument(
        "--name", default="sweep", metavar="PREFIX", help="prefix of the experiments' names (default: sweep)"
    )
    command.add_argument("--address", help="Dask scheduler, tcp://host:port (default: workers on this machine)")
    command.add_argument(
        "--workers", type=int, metavar="N", help="workers on this machine (default: cores / train.threads)"
    )
    command.add_argument(
        "--git-remote",
        dest="remote",
        metavar="NAME",
        help="Git remote for clones and experiments (default: origin with --address)",
    )
    command.add_argument(
        "--no-cache", dest="pull_cache", action="store_false", help="do not download models and predictions"
    )

    command = add("export", _export, "write a variant's models as ONNX and LiteRT files (see docs/use.md)")
    command.add_argument("variant", help="an entry under models in params.yaml")
    command.add_argument(
        "--seed", type=int, help="the seed whose model to write beside the ensemble (default: the first)"
    )

    command = add("page", _page, "write page/index.html, which reads drawn digits in a browser (see docs/use.md)")
    command.add_argument(
        "variants", nargs="*", metavar="variant", help="an entry under models in params.yaml (default: all variants)"
    )

    command = add("read", _read, "read the digits in pictures (see docs/use.md)")
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="PNG, JPEG, WebP or TIFF picture; - reads standard input"
    )
    command.add_argument("--variant", help="an entry under models in params.yaml (default: the best on validation)")
    command.add_argument("--json", dest="as_json", action="store_true", help="print all probabilities as JSON")
    command.add_argument(
        "--show", type=Path, metavar="OUT", help="write a picture with a box and the answer for each digit"
    )
    return parser


def _stage(stage: str, _: Location, **given: str) -> None:
    if "variant" in given:  # checked here, too, because a stage takes seconds to import TensorFlow
        from digits.core import params

        params.load(paths.PARAMS).model(given["variant"])
    with _interruptible():
        with garbage_collection_suspended():
            run: Callable[..., None] = import_module(f"digits.stages.{stage}").run
        run(**given)


def _check_lock(_: Location) -> None:
    from digits.versioning import lock

    lock.check(ROOT)


def _checksums(location: Location, folder: str) -> None:
    from digits.core import params
    from digits.data import downloads

    names = params.load(paths.PARAMS).download.files.by_name()
    specs = downloads.describe(location.here / folder, list(names))
    print("# in place of the keys sources and files of download in params.yaml")
    print(f"  sources: [{json.dumps(str((location.here / folder).resolve()))}]\n  files:")
    for name, spec in specs.items():
        print(f"    {name}: {{bytes: {spec.bytes}, sha256: {spec.sha256}}}")


def _repair(location: Location) -> None:
    from digits.versioning import repair

    damaged = repair.remove_damaged(ROOT)
    for path in damaged:
        print(f"deleted: {location.shown(path)}")
    if damaged:
        print(location.message("type `dvc repro` to restore their contents, or `dvc pull` to download them"))
    else:
        print("no file of the DVC cache is damaged")


def _verify(location: Location, base: str, *, after_repro: bool) -> None:
    from digits.versioning.verify import verify

    try:
        result = verify(ROOT, base)
    except (UserError, OSError) as error:
        if not after_repro:
            raise
        print(location.message(f"The results were not compared with committed ones: {error}"))
        return
    width = max(map(len, result.variants), default=0)
    for variant, comparison in result.variants.items():
        print(f"{variant:{width}}  {comparison}")
    print(location.message(result.explanation()))
    if not (result.passed or after_repro):
        sys.exit(1)


def _review(
    location: Location, base: str, head: str | None, *, fail_if_worse: bool, one_seed: bool, **allowed: Any
) -> None:
    from digits.review import render, report

    result = report.review(ROOT, base, head, report.Allowed(**allowed))
    render.write(result, paths.REVIEW, paths.TEST)
    print(render.summary(result))
    folder = location.shown(paths.REVIEW)
    print(f"written: {folder}/index.html, {folder}/index.md")
    if result.void or (fail_if_worse and result.refuses(one_seed=one_seed)):
        sys.exit(1)


def _experiments(_: Location) -> None:
    from digits.core import config
    from digits.replication import experiments
    from digits.replication.published import Published

    wanted = experiments.load(paths.EXPERIMENTS)
    source = config.read(paths.PUBLISHED, Published)
    commit = experiments.run(ROOT, wanted, source)
    experiments.write(paths.EXPERIMENT_METRICS, experiments.results(ROOT, wanted, source, commit))


def _sweep(location: Location, settings: list[str], name: str, **options: Any) -> None:
    try:
        from digits.sweep import leaderboard, runner
    except ModuleNotFoundError as error:
        raise UserError(f"sweep needs {error.name}: type `make environment`") from None

    trials = runner.grid(settings, name)
    result = runner.run(runner.Sweep(ROOT, trials, **options))
    if result.scores:
        folder = runner.FOLDER / name
        print(leaderboard.write(trials, result.scores, result.settings, ROOT, folder))
        print(f"written: {location.shown(folder)}/trials.csv, {location.shown(folder)}/trials.png")
    if result.failed:
        raise UserError(f"{len(result.failed)} of {len(trials)} trials failed; the last lines of each are above")


def _export(location: Location, variant: str, seed: int | None) -> None:
    needed = ("tf2onnx", "onnx", "onnxruntime", "ai_edge_litert")  # Keras imports the first two
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise UserError(f"export needs {missing[0]}: type `make environment`")
    from digits.inference import export

    for file in export.export(ROOT, variant, seed):
        print(
            f"{location.shown(file.path)}: {file.size / 1000:,.0f} kB, {1000 * file.seconds:.3f} ms an image; "
            f"all {file.images:,} answers are those of Keras, and probabilities differ by {file.difference:.1e} at most"
        )


def _page(location: Location, variants: list[str]) -> None:
    from digits.inference.page import page

    result = page.write(ROOT, variants)
    print(f"written: {location.shown(paths.PAGE)}, {result.size:,} bytes")
    for variant, difference in result.differences.items():
        print(
            f"{variant}: all answers to the test images are those of the models, and probabilities differ by "
            f"{difference:.1e} at most"
        )


def _read(location: Location, files: list[str], variant: str | None, show: Path | None, *, as_json: bool) -> None:
    if show and len(files) > 1:
        raise UserError(f"--show takes one picture, but {len(files)} files are given: give one")
    with garbage_collection_suspended():
        from digits.inference import pictures, reader, trained

    model = trained.load(ROOT, variant)
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            picture = pictures.open_picture(file if file == pictures.STANDARD_INPUT else str(location.here / file))
            lines = reader.read(picture, model)
        except UserError as error:
            print(f"digits: {file}: {error}", file=sys.stderr)
            results.append({"file": file, "error": str(error)})
            continue
        results.append({"file": file, "lines": [[digit.as_json() for digit in line] for line in lines]})
        if show:
            pictures.save(location.here / show, reader.draw(picture, lines))
        if not as_json:
            for line in lines:
                print(f"{file}: {''.join(digit.text for digit in line)}")
                print(f"  {', '.join(map(str, line))}")
    if as_json:
        answer = {"variant": model.ensemble.variant, "threshold": model.threshold, "pictures": results}
        print(json.dumps(answer, indent=2))
    if any("error" in result for result in results):
        sys.exit(1)


@contextlib.contextmanager
def garbage_collection_suspended() -> Iterator[None]:
    """Exempt from garbage collection what the block creates.

    Imports create hundreds of thousands of objects that stay. Searching them for garbage delays the start of TensorFlow
    by a third, and takes half a second at exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C end the block with KeyboardInterrupt, even if a library turns it into another exception.

    TensorFlow does: interrupted while it creates a tensor, it raises SystemError.
    """
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    # A process that its shell made ignore Ctrl-C must go on ignoring it.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
