"""Parameters within the schema: each configuration is trained and evaluated, or refused in one line.

`make faults` generates 1,000, half of which are valid. They are trained in other processes, which TensorFlow may end
without an exception; this is a failure, too.
"""

import json
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, event, example, given, settings
from hypothesis import strategies as st
from support import IMAGES, committed, generated, is_clear, run

from digits.core import config, params, paths
from digits.core.artifacts import read_arrays, read_json, write_arrays
from digits.core.errors import UserError
from digits.data.split import stratified_split

CONTENT = config.parse_like_dvc(committed("params.yaml"))
COUNT = 150  # published training images
VARIANT = "drawn"
HERE = "stages.test_configurations"  # the name by which another process imports this file
STAGES = ["digits.stages.train", "digits.stages.evaluate"]
MODEL = CONTENT["models"]["mlp64"] | {"units": [4]}
WILD = MODEL | {"normalize": False, "units": [64] * 4, "optimizer": {"name": "sgd", "learning_rate": 100}}
TRAIN = CONTENT["train"] | {"epochs": 1, "seeds": [5]}
SEEDS = st.integers(0, 2**31 - 1)
ABOVE_0 = st.floats(0, 1, exclude_min=True, exclude_max=True)  # and below 1
KERNELS = st.sampled_from([1, 2, 2, 3, 3, 3, 5, 5, 14, 27, 28])  # most of the networks have to fit
STEPS = st.sampled_from([1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 5, 14, 27, 28])
CONVOLUTIONS = st.builds(dict[str, Any], filters=st.integers(1, 4), kernel=KERNELS, stride=STEPS, pool=STEPS)
MODELS = st.builds(
    dict[str, Any],
    normalize=st.booleans(),
    validation=st.booleans(),
    convolutions=st.lists(CONVOLUTIONS, max_size=2),
    units=st.lists(st.integers(1, 8) | st.just(64), max_size=4),
    dropout=st.just(0.0) | st.floats(0, 1, exclude_max=True),
    loss=st.sampled_from(["categorical_crossentropy", "sparse_categorical_crossentropy"]),
    optimizer=st.builds(
        dict[str, Any],
        name=st.sampled_from(["sgd", "adam"]),
        learning_rate=st.floats(0, 100, exclude_min=True) | st.sampled_from([0.001, 0.1, 100]),
        decay=st.just(1.0) | ABOVE_0,
        ema_momentum=st.none() | ABOVE_0,
    ),
    batch_size=st.integers(1, COUNT + 1) | st.sampled_from([COUNT, 60_000]),
    shift=st.integers(0, 8),
    distortion=st.none()
    | st.builds(dict[str, Any], rotate=st.floats(0, 180), zoom=st.floats(0, 0.5), shear=st.floats(0, 1)),
)
CONFIGURATIONS = st.builds(
    dict[str, Any],
    models=st.builds(dict[str, Any], **{VARIANT: MODELS}),
    train=st.builds(
        dict[str, Any],
        st.just(TRAIN),
        checkpoints=st.sampled_from([None] * 5 + [[1]] * 5 + [[], [1, 2], [1, 1]]),
        seeds=st.lists(SEEDS, min_size=1, max_size=3),
        threads=st.just(1),
    ),
    preprocess=st.builds(dict[str, Any], validation_fraction=st.just(0.25) | st.floats(0.1, 0.9) | ABOVE_0, seed=SEEDS),
    evaluate=st.builds(dict[str, Any], calibration_bins=st.integers(2, 1000)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configurations") / "digits"


def write(folder: Path, digits: tuple[IMAGES, IMAGES], **changes: Any) -> params.Params:
    """Write the parameters and the arrays of a configuration into an empty folder; raise UserError if it is refused."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".dvc").mkdir(parents=True)  # marks the root of a repository
    content = deepcopy(CONTENT) | {"variants": [VARIANT]} | changes
    content["download"]["files"]["train-labels-idx1-ubyte"]["bytes"] = 8 + COUNT
    (folder / "params.yaml").write_text(json.dumps(content), "utf-8")
    loaded = params.load(folder / "params.yaml")
    images, labels = digits
    parts = stratified_split(labels[:COUNT], loaded.preprocess.validation_fraction, loaded.preprocess.seed)
    for path, part in zip((paths.TRAIN, paths.VALIDATION, paths.TEST), (*parts, np.arange(COUNT, 200)), strict=True):
        write_arrays(folder / path, images=images[part], labels=labels[part])
    return loaded


def start() -> None:
    """Prepare a process that trains and evaluates configurations."""
    warnings.simplefilter("error")  # as pytest does in its own process
    warnings.simplefilter("ignore", DeprecationWarning)
    # Once in a process; several, because with one TensorFlow survives more.
    import_module("digits.modeling.backend").pin_threads(2, 2)
    for name in STAGES:
        import_module(name).pin_threads = lambda *_: None  # type: ignore[attr-defined]


def train_and_evaluate(folder: Path) -> tuple[str, str]:
    """Return the stage that refused the configuration in a folder, and its message; or "" twice."""
    os.chdir(folder)
    for name in STAGES:
        try:
            import_module(name).run(VARIANT)
        except UserError as error:
            return name, str(error)
    return "", ""


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """Another process, which is replaced after 20 configurations; a fork of TensorFlow's threads may hang."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, import_module(HERE).start, max_tasks_per_child=20) as pool:
        yield pool


@pytest.mark.faults
@given(changes=CONFIGURATIONS)
@example(changes={"models": {VARIANT: WILD}, "train": TRAIN})
@settings(generated(light=25, full=1000), phases=set(Phase) - {Phase.shrink, Phase.explain})  # seconds an example
def test_a_configuration_is_trained_and_evaluated_or_refused_in_one_line(
    folder: Path, digits: tuple[IMAGES, IMAGES], process: ProcessPoolExecutor, changes: dict[str, Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        try:
            loaded = write(folder, digits, **changes)
        except UserError as error:
            assert is_clear(str(error))
            event("refused")
            return
        stage, message = process.submit(import_module(HERE).train_and_evaluate, folder).result()
        patch.chdir(folder)
        files = paths.VariantFiles(VARIANT)
        assert is_clear(message) or not stage
        event(f"{stage} refused it" if stage else "evaluated")
        if stage == STAGES[0]:
            assert message.startswith(f"{VARIANT} diverges: in epoch 1 of seed ")
            assert not files.training.exists()
            assert not files.model.exists()
        elif stage:
            assert message.startswith(f"{VARIANT} diverges: after epoch 1 of seed ")
        else:
            assert read_json(files.metrics)["seeds"] == loaded.train.seeds


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_a_network_that_memory_cannot_hold_is_refused_in_one_line(
    folder: Path, digits: tuple[IMAGES, IMAGES], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    write(folder, digits, models={VARIANT: MODEL | {"units": [65_536, 65_536]}})  # 17 GB of weights
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)); "
    train_ = f"from digits import cli; cli.main(['train', '{VARIANT}'])"
    message = run(folder, sys.executable, "-c", limit + train_, fails=True)
    assert message == (
        "digits: train: not enough memory: end other programs, or set the environment variable DIGITS_CORES to 1, so "
        "that one seed runs at a time, or set a smaller models.drawn.batch_size\n"
    )


@pytest.fixture
def unpinned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads stays as it is in this process, where TensorFlow sets it once."""
    monkeypatch.chdir(folder.parent)
    for name in STAGES:
        monkeypatch.setattr(f"{name}.pin_threads", lambda *_: None)


@pytest.mark.usefixtures("unpinned")
def test_training_stops_at_the_first_loss_that_is_not_finite(folder: Path, digits: tuple[IMAGES, IMAGES]) -> None:
    write(folder, digits, models={VARIANT: WILD}, train=TRAIN | {"epochs": 10_000})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stage, message = train_and_evaluate(folder)
    assert stage == STAGES[0]
    assert message == (
        "drawn diverges: in epoch 1 of seed 5, the loss or a weight is no longer finite; "
        "models.drawn.optimizer.learning_rate is 100: set a lower one, or type `git checkout . && dvc checkout` to go "
        "back to the committed parameters and results"
    )
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files


@pytest.mark.usefixtures("unpinned")
def test_a_run_that_learns_nothing_is_named_and_logits_that_are_not_finite_are_refused(
    folder: Path, digits: tuple[IMAGES, IMAGES], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = MODEL | {"units": [16], "optimizer": {"name": "adam", "learning_rate": 1e-9}}
    seeds = [5, 6, 7, 8, 9, 10]  # more than threads: after an error the others must end, too
    write(folder, digits, models={VARIANT: model}, train=TRAIN | {"seeds": seeds})
    monkeypatch.chdir(folder)
    import_module(STAGES[0]).run(VARIANT)
    assert (
        "warning: drawn learned nothing with seed 5, 6, 7, 8, 9, 10: on the training images it is no better than "
        "always answering 2, which is right for 10.71 %; try another learning rate\n"
    ) in capsys.readouterr().err
    file = paths.VariantFiles(VARIANT).weights
    weights = read_arrays(file)
    write_arrays(file, **{key: values * 3e38 if "kernel" in key else values for key, values in weights.items()})
    message = "drawn diverges: after epoch 1 of seed 5, its weights are so large that logits"
    with pytest.raises(UserError, match=message):
        import_module(STAGES[1]).run(VARIANT)
