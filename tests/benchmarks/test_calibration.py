import json

import numpy as np
import pytest
from calibration import CNN, DENSE, POOLS, SIZES, Draws, read
from support import ROOT

RESULTS = json.loads((ROOT / "benchmarks/calibration.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def pools() -> dict[str, np.ndarray]:
    return {name: read(name) for name in POOLS}


def test_the_results_are_those_of_the_kept_errors(pools: dict[str, np.ndarray]) -> None:
    assert (len(DENSE), len(CNN)) == (40, 20)
    for name, errors in pools.items():
        assert errors.shape == (len(POOLS[name].seeds), 10_000)
        assert RESULTS["pools"][name]["errors"] == pytest.approx(errors.sum(axis=1).mean(), rel=1e-5)
    # Another processor changes the errors of the variants that XLA does not compile.
    changed = {name for name in SIZES if not np.array_equal(pools[name], pools[f"{name}-avx2"])}
    assert changed == {"mlp128", "cnn"}


def test_five_seeds_of_the_same_code_are_told_apart_seldom_and_single_seeds_by_mcnemar_often(
    pools: dict[str, np.ndarray],
) -> None:
    found = Draws(pools, None, draws=60).false_verdicts()
    assert found["five seeds"]["any"]["share"] < 0.15
    assert found["one seed, McNemar"]["any"]["share"] > found["five seeds"]["any"]["share"]
    assert found["same seeds"]["alone"]["softmax"]["share"] == 0


def test_more_units_are_found_more_often_with_more_seeds(pools: dict[str, np.ndarray]) -> None:
    found = Draws(pools, None, draws=40).power("mlp64-96")
    assert found["better"]["5"]["share"] > found["better_by_mcnemar"]["share"]
    assert found["better"]["20"]["share"] == 1


def test_intervals_contain_the_true_difference(pools: dict[str, np.ndarray]) -> None:
    writers = np.repeat(np.arange(200), 50)
    found = Draws(pools, writers, draws=40).coverage("mlp64", "cnn")
    assert found["difference"] == pytest.approx(0.0293, abs=1e-3)
    assert min(found[kind]["share"] for kind in ("same images", "other writers", "other writers, known")) > 0.8
