"""The commands that README shows."""

import json
import re
from pathlib import Path

from support import ROOT, committed, edit, run

WIDTH = 160  # columns of a terminal


def test_the_table_of_experiments_can_be_read_when_every_variant_has_changed(tmp_path: Path) -> None:
    (command,) = re.findall(r"^dvc exp show (--only-changed) --drop '(.+?)' +#", committed("README.md"), re.MULTILINE)
    run(tmp_path, "git", "clone", "-q", "--depth", "1", ROOT.as_uri(), "clone")
    clone = tmp_path / "clone"
    summary = json.loads(committed("metrics/summary.json"))
    changed = {variant: {key: value * 0.9 for key, value in row.items()} for variant, row in summary.items()}
    (clone / "metrics/summary.json").write_text(json.dumps(changed), "utf-8")
    edit(clone / "params.yaml", train__epochs=6, train__seeds=[0])
    header = run(clone, "dvc", "exp", "show", command[0], "--drop", command[1]).splitlines()[1]
    name = len("└── 1234567 [quick-look]") - len("Experiment")  # of an experiment, which the clone lacks
    assert header.split()[2:] == [*(f"{variant}.accuracy" for variant in summary), "train.epochs", "train.seeds"]
    assert len(header.rstrip()) + name <= WIDTH
