"""params.yaml is written as DVC writes it, so that `dvc exp run -S` changes the lines that it names and no others."""

import difflib
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from support import committed


@pytest.mark.parametrize(
    ("override", "removed", "added"),
    [
        ("train.epochs=30", [], []),
        ("train.epochs=6", ["  epochs: 30"], ["  epochs: 6"]),
        ("models.mlp64.units=[256]", ["    - 64"], ["    - 256"]),
        ("models.cnn.optimizer.learning_rate=0.002", ["      learning_rate: 0.004"], ["      learning_rate: 0.002"]),
        ("train.seeds=[0]", ["  - 1", "  - 2", "  - 3", "  - 4"], []),
        ("train.checkpoints=[2,30]", [], ["  - 2", "  - 30"]),
        ("variants=[cnn-large]", ["- softmax", "- mlp64", "- mlp128", "- cnn"], ["- cnn-large"]),
        ("evaluate.writers={source: a.tsv}", [], ["    source: a.tsv"]),
    ],
)
def test_an_experiment_changes_the_lines_that_it_names(
    override: str, removed: list[str], added: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    before = committed("params.yaml")
    path.write_text(before, "utf-8")
    apply_overrides(path, [override])
    lines = list(difflib.ndiff(before.splitlines(), path.read_text("utf-8").splitlines()))
    assert [line[2:] for line in lines if line.startswith("- ")] == removed
    assert [line[2:] for line in lines if line.startswith("+ ")] == added
