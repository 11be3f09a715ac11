import json
from pathlib import Path
from typing import Any

import pytest
import tables
from support import run

from digits.core.errors import UserError
from digits.versioning import lock
from digits.versioning.revisions import workspace

MEASURED: dict[str, Any] = {
    "mean": 0.925123,
    "std": 0.01234,
    "values": [0.913, 0.938],
    "interval": [0.911111, 0.939],
    "reproduced": False,
}
ONE_SEED = MEASURED | {"std": None, "values": [0.925123], "interval": None, "reproduced": None}
SIZE = {"mean": 70000, "std": None, "values": [70000], "interval": None, "reproduced": True}
PUBLISHED: dict[str, Any] = {
    "report": "A",
    "section": "7",
    "quantity": "accuracy",
    "published": 0.95,
    "measured": MEASURED,
    "experiments": {"refit": True, "scaled": False},
}
CLAIM = {
    "report": "A",
    "section": "3 and 7",
    "claim": "the loss rises",
    "from": -0.00123456,
    "to": 0.5,
    "interval": [-0.1, 0.25],
    "holds": False,
}
EXPERIMENT_NUMBER = {"report": "A", "quantity": "accuracy", "epoch": 21, "published": 0.95, "measured": MEASURED}
SHARE = {"share": 0.032, "interval": [0.022, 0.045]}
ANSWERS = {"threshold": 0.9, "coverage": 0.9, "accuracy": 0.99912, "kept": True}
SILENT = {"threshold": None, "coverage": 0.0, "accuracy": None, "kept": None}
STRESSED = {"accuracy": {"mean": 0.9, "std": 0.01}, "promised": 0.95, "interval": [-0.06, 0.001], "outcome": "worse"}
SUPPORT = {str(digit): {"support": 1010 if digit == 1 else 1000} for digit in range(10)}
RESULTS: dict[str, Any] = {
    "metrics/summary.json": {"cnn": {}, "mlp64": {}},
    "metrics/variants/cnn.json": {
        "seeds": [0, 1],
        "epochs": 2,
        "parameters": 80202,
        "test": {
            "accuracy": {"mean": 0.9937, "std": 0.00042, "values": [0.9934, 0.994]},
            "accuracy_interval": [0.9919, 0.9951],
            "errors": {"mean": 1234.5, "std": 6.25},
            "loss": {"mean": 0.01911, "std": 0.001},
            "ensemble": {"accuracy": 0.9945},
        },
        "per_class": SUPPORT,
        "calibration": {"expected_error": {"mean": 0.0031, "std": 0.0004}},
        "best": {"accuracy": {"mean": 0.9941, "std": 0.0003}, "epoch": 1, "selected_on": "validation"},
        "selective": {
            "chosen_on": "validation",
            "promises": [
                {
                    "accuracy": 0.995,
                    "ensemble": ANSWERS,
                    "seeds": [ANSWERS, ANSWERS | {"coverage": 0.7, "kept": False}],
                },
                {"accuracy": 0.999, "ensemble": SILENT, "seeds": [SILENT, SILENT]},
            ],
        },
    },
    "metrics/variants/mlp64.json": {
        "seeds": [0],
        "epochs": 2,
        "parameters": 50890,
        "test": {
            "accuracy": {"mean": 0.96, "std": None, "values": [0.96]},
            "accuracy_interval": [0.955, 0.965],
            "errors": {"mean": 400.0, "std": None},
            "loss": {"mean": 0.12, "std": None},
            "ensemble": {"accuracy": 0.96},
        },
        "per_class": SUPPORT,
        "calibration": {"expected_error": {"mean": 0.01, "std": None}},
        "best": {"accuracy": {"mean": 0.9601, "std": None}, "epoch": 1, "selected_on": "test"},
        "selective": {
            "chosen_on": "test",
            "promises": [{"accuracy": 0.99, "ensemble": ANSWERS | {"coverage": 1.0}, "seeds": [ANSWERS]}],
        },
    },
    "metrics/variants/cnn-errors.json": {
        "images": {"all": 18, "some": 0, "none": 9982},
        "resemblance": {"groups": {"all": {"share": 0.54}, "some": {"share": None}, "none": {"share": 0.025}}},
        "rare_style": {
            "groups": {
                "all": {"distance_quartiles": [5, 5.774, 6]},
                "some": {"distance_quartiles": None},
                "none": {"distance_quartiles": [3, 4, 5]},
            }
        },
        "overlap": {
            "pairs": [{"digits": [4, 9], "observed": 7, "ratio": 3.51}],
            "share_of_errors": 0.1,
            "pairs_above_chance": 1,
        },
        "disputed": {
            "images": 15,
            "errors": 8.8,
            "people_agree": 6.75,
            "accuracy": {"mean": 0.9937, "std": 0.00042},
            "accuracy_without": {"mean": 0.9942, "std": 0.0003},
        },
    },
    "metrics/variants/mlp64-errors.json": {
        "images": {"all": 400, "some": 300, "none": 9300},
        "resemblance": {"groups": {"all": {"share": 0.5}, "some": {"share": 0.2}, "none": {"share": 0.01}}},
        "rare_style": {"groups": {group: {"distance_quartiles": [3, 4, 5]} for group in ("all", "some", "none")}},
        "overlap": {
            "pairs": [{"digits": [3, 5], "observed": 0, "ratio": None}],
            "share_of_errors": 0.5,
            "pairs_above_chance": 2,
        },
        "disputed": {
            "images": 15,
            "errors": 11,
            "people_agree": 7,
            "accuracy": {"mean": 0.96, "std": None},
            "accuracy_without": {"mean": 0.961, "std": None},
        },
    },
    "metrics/stress.json": {
        "test": {
            "title": "test images",
            "variants": {
                "cnn": STRESSED | {"outcome": "no evidence of a difference"},
                "mlp64": STRESSED | {"promised": None, "interval": None, "outcome": None},
            },
        },
        "scikit-learn": {
            "title": "other people",
            "variants": {"cnn": STRESSED, "mlp64": STRESSED | {"promised": 0.97}},
        },
    },
    "metrics/published.json": {
        "numbers": [
            PUBLISHED,
            PUBLISHED | {"measured": MEASURED | {"reproduced": True}},
            PUBLISHED | {"quantity": "images", "published": 70000, "measured": SIZE, "experiments": {}},
            PUBLISHED | {"measured": ONE_SEED, "experiments": {}},
            PUBLISHED | {"measured": None, "experiments": {"refit": None}},
        ],
        "claims": [
            CLAIM,
            CLAIM | {"interval": None, "holds": None},
            CLAIM | {"section": "3", "from": None, "to": None, "interval": None, "holds": None},
        ],
    },
    "metrics/experiments.json": {
        "refit": {
            "description": "one model",
            "numbers": [
                EXPERIMENT_NUMBER,
                EXPERIMENT_NUMBER | {"quantity": "loss", "epoch": None, "measured": ONE_SEED},
            ],
        }
    },
    "benchmarks/reading.json": {
        "digits": {"pictures": 10000, "accuracy": 0.9928, "accuracy_on_arrays": 0.9948},
        "numbers": {"pictures": 1000, "whole": 0.965, "whole_and_sure": 0.8154, "sure_but_wrong": 0.002},
        "seconds": {"one_photo": 0.846, "each_further_photo": 0.166},
    },
    "benchmarks/page.json": {
        "bytes": 2_799_659,
        "variants": {"cnn": {"test": {"largest_difference": 4.87e-5, "different_answers": 0}}},
        "milliseconds": {
            "desk": {"median": 8.8, "percentile_95": 21.2},
            "phone": {"median": 33.4, "percentile_95": 44},
        },
    },
    "benchmarks/calibration.json": {
        "false_verdicts": {
            kind: {"any": SHARE, "worse": SHARE | {"share": 0.01}, "alone": {"cnn": SHARE, "mlp64": SHARE}}
            for kind in ("five seeds", "other processor", "same seeds")
        }
        | {kind: {"any": SHARE} for kind in ("one seed, McNemar", "one seed, images alone")},
        "power": {
            "80": {
                "difference": 0.00134,
                "better": {"5": SHARE | {"share": 0.331}, "15": SHARE | {"share": 0.876}},
                "better_by_mcnemar": SHARE,
            }
        },
        "coverage": {
            "mlp64 and cnn": {
                "difference": 0.0293,
                "same images": SHARE,
                "other writers": SHARE | {"share": 0.96},
                "other writers, known": SHARE | {"share": 0.95},
            }
        },
        "design_effects": {"accuracy": {"cnn": 1.96}, "difference": {"mlp64 and cnn": 2.49}},
    },
    "benchmarks/results.json": {
        "epoch": {
            "rounds": [
                {"digits": {"seconds": 0.2}, "numpy": {"seconds": 0.1}},
                {"digits": {"seconds": 0.4}, "numpy": {"seconds": 0.3}},
            ],
            "test": {"digits": 0.94, "numpy": None},
        },
        "accuracy": {
            "runs": [
                {"variant": "cnn", "seed": 0, "parameters": 80202, "seconds": [1, 60.2], "accuracies": [0.9, 0.993]},
                {"variant": "cnn", "seed": 1, "parameters": 80202, "seconds": [1, 62.2], "accuracies": [0.9, 0.995]},
            ]
        },
    },
}
EXPECTED = {
    "results": """\
| variant | parameters | test accuracy after 2 epochs, 1 or 2 seeds (95 % interval) | errors | loss | calibration error | test accuracy of the ensemble | test accuracy at the best epoch |
| :-- | --: | --: | --: | --: | --: | --: | --: |
| `cnn` | 80,202 | 99.37 ± 0.04 % (99.19 % to 99.51 %) | 1,234.5 ± 6.2 | 0.019 | 0.003 | 99.45 % | 99.41 ± 0.03 % at 1, chosen on validation |
| `mlp64` | 50,890 | 96.00 % (95.50 % to 96.50 %) | 400 | 0.120 | 0.010 | 96.00 % | 96.01 % at 1, chosen on test |
""",  # noqa: E501
    "published": """\
| report | section | quantity | published | measured, 2 seeds | 95 % prediction interval | reproduced |
| :-- | --: | :-- | --: | :-- | :-- | :-- |
| A | 7 | accuracy | 0.95 | 0.9251 ± 0.012 | 0.9111 to 0.939 | by `refit` |
| A | 7 | accuracy | 0.95 | 0.9251 ± 0.012 | 0.9111 to 0.939 | yes |
| A | 7 | images | 70,000 | 70,000 | – | yes |
| A | 7 | accuracy | 0.95 | 0.925123 | – | unknown from one seed |
| A | 7 | accuracy | 0.95 | not run | – | not run |
""",
    "claims": """\
| report | section | claim | from | to | 95 % interval of the mean change | holds |
| :-- | --: | :-- | :-- | :-- | :-- | :-- |
| A | 3 and 7 | the loss rises | −0.001235 | 0.5 | −0.1 to 0.25 | **no** |
| A | 3 and 7 | the loss rises | −0.001235 | 0.5 | – | unknown from one seed |
| A | 3 | the loss rises | not run | not run | – | not run |
""",
    "experiments": """\
| experiment | report | quantity | published | measured, 2 seeds | 95 % prediction interval | reproduced |
| :-- | :-- | :-- | --: | --: | :-- | :-- |
| `refit`: one model | A | accuracy (epoch 21) | 0.95 | 0.9251 ± 0.012 | 0.9111 to 0.939 | **no** |
|  | A | loss | 0.95 | 0.925123 | – | unknown from one seed |
""",
    "errors": """\
| variant | images that all, some, none of the seeds misclassify | nearest training image is another digit: all, some, none | median distance to the nearest training image of the same digit: all, some, none | most confused pair | errors in pairs confused above chance |
| :-- | --: | --: | --: | --: | --: |
| `cnn` | 18 / 0 / 9,982 | 54.0 % / – / 2.5 % | 5.77 / – / 4.00 | 4 and 9, 7 times (3.5 times chance) | 10 % in 1 pair |
| `mlp64` | 400 / 300 / 9,300 | 50.0 % / 20.0 % / 1.0 % | 4.00 / 4.00 / 4.00 | 3 and 5, 0 times | 50 % in 2 pairs |
""",  # noqa: E501
    "disputed": """\
| variant | errors of a seed among the 15 images | of these, answers that most people give | test accuracy | without these images |
| :-- | --: | --: | --: | --: |
| `cnn` | 8.8 | 6.8 | 99.37 ± 0.04 % | 99.42 ± 0.03 % |
| `mlp64` | 11.0 | 7.0 | 96.00 % | 96.10 % |
""",  # noqa: E501
    "selective": """\
| variant | promised | chosen on | ensemble: test images answered | right | amounts of 6 digits read | one seed: answered | seeds that keep the promise, of those that answer |
| :-- | --: | :-- | --: | :-- | --: | --: | :-- |
| `cnn` | 99.5 % | validation | 90.0 % | 99.91 % | 53.1 % | 80.0 % | 1 of 2 |
| `cnn` | 99.9 % | validation | 0.0 % | – | 0.0 % | 0.0 % | – |
| `mlp64` | 99.0 % | test | 100.0 % | 99.91 % | 100.0 % | 90.0 % | – |
""",  # noqa: E501
    "stress": """\
| images | `cnn` | `mlp64` |
| :-- | :-- | :-- |
| promised | 95.0 % | 97.0 % |
| test images | 90.0 % (−6.0 to +0.1) | 90.0 % |
| other people | **90.0 % (−6.0 to +0.1)** | **90.0 % (−6.0 to +0.1)** |
""",
    "reading": """\
| figure | measured |
| :-- | --: |
| answers that are right, 10,000 test images on sheets | 99.28 % |
| the same on the arrays | 99.48 % |
| numbers read whole, 1,000 numbers | 96.5 % |
| numbers read whole, and sure of each digit | 81.5 % |
| numbers sure of each digit, but wrong | 0.2 % |
| start and answer, a photo of 2 megapixels | 0.85 s |
| each further photo | 0.17 s |
""",
    "page": """\
| figure | measured |
| :-- | --: |
| size of the page | 2.80 MB |
| largest difference of a probability from Keras, any seed of `cnn` | 0.000049, 0 different answers |
| from a movement to its answer, this machine: median, 95th percentile | 9 ms, 21 ms |
| from a movement to its answer, a processor slowed down four times: median, 95th percentile | 33 ms, 44 ms |
""",
    "speed": """\
| one epoch of `mlp128` | seconds | times as long | test accuracy after 3 epochs |
| :-- | --: | --: | :-- |
| DIGITS | 0.30 | 1 | 94.00 % |
| NUMPY | 0.20 | 0.62 | – |
""",
    "convolutional": """\
| variant | parameters | epochs | test accuracy, 2 seeds | seconds of training |
| :-- | --: | --: | --: | --: |
| `cnn` | 80,202 | 2 | 99.40 ± 0.14 % | 61 |
""",
    "false-verdicts": """\
| each side | reviews with a false verdict (95 % interval) | with a false “worse” | each variant alone, at 5 % |
| :-- | --: | :-- | :-- |
| one seed, McNemar's exact test | 3.2 % (2.2 % to 4.5 %) | – | – |
| one seed, by the images alone | 3.2 % (2.2 % to 4.5 %) | – | – |
| five seeds | 3.2 % (2.2 % to 4.5 %) | 1.0 % | `cnn` 3.2 %, `mlp64` 3.2 % |
| five seeds, one side as on a processor without AVX-512 | 3.2 % (2.2 % to 4.5 %) | 1.0 % | `cnn` 3.2 %, `mlp64` 3.2 % |
| the same five seeds, one side as on a processor without AVX-512 | 3.2 % (2.2 % to 4.5 %) | 1.0 % | `cnn` 3.2 %, `mlp64` 3.2 % |
""",  # noqa: E501
    "power": """\
| `mlp64` with | true difference in points | one seed, McNemar | 5 seeds | 15 seeds |
| --: | --: | --: | --: | --: |
| 80 units | 0.13 | 3 % | 33 % | 88 % |
""",
    "coverage": """\
| variants | true difference in points | on the same images | with other writers | with other writers, known to the comparison |
| :-- | --: | --: | --: | --: |
| mlp64 and cnn | 2.93 | 3.2 % (2.2 % to 4.5 %) | 96.0 % (2.2 % to 4.5 %) | 95.0 % (2.2 % to 4.5 %) |
""",  # noqa: E501
    "design-effects": """\
| quantity | design effect |
| :-- | --: |
| accuracy of `cnn` | 2.0 |
| difference of mlp64 and cnn | 2.5 |
""",
}
PAGES = {
    "README.md": ("results", "speed"),
    "docs/replication.md": ("published", "claims", "experiments", "errors", "disputed", "convolutional"),
    "docs/use.md": ("reading", "page", "selective", "stress"),
    "docs/evidence.md": ("false-verdicts", "power", "coverage", "design-effects"),
}


def block(name: str, content: str = "stale\n") -> str:
    return f"<!-- table: {name} -->\n\n{content}\n<!-- end -->"


def commit(root: Path) -> None:
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "-qm", "Change")


def change(root: Path, file: str, **values: Any) -> None:
    """Change keys of a JSON file."""
    content = json.loads((root / file).read_text("utf-8"))
    (root / file).write_text(json.dumps(content | values), "utf-8")


@pytest.fixture(autouse=True)
def matching_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are those of the code and the parameters, as `digits check-lock` says."""
    monkeypatch.setattr(lock, "check", lambda root: None)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with every file that the tables are made of, and two pages with current tables, all committed."""
    monkeypatch.setattr(tables, "PEERS", {"digits": "DIGITS", "numpy": "NUMPY"})
    run(tmp_path, "git", "init", "-q")
    for file, content in RESULTS.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(json.dumps(content), "utf-8")
    for page, names in PAGES.items():
        (tmp_path / page).parent.mkdir(exist_ok=True)
        text = "\n\n".join(block(name, EXPECTED[name]) for name in names)
        (tmp_path / page).write_text(f"# Page\n\n{text}\n\nThe end.\n", "utf-8")
    (tmp_path / "other.md").write_text("No table, and no `<!-- table: NAME -->` either.\n", "utf-8")
    commit(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_written_from_its_files(tree: Path, name: str) -> None:
    text = f"Before.\n{block(name)}\nAfter.\n"
    expected = f"Before.\n{block(name, EXPECTED[name])}\nAfter.\n"
    assert tables.rendered(text, Path("page.md"), workspace(tree)) == expected


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        ([0.1, 0.101], " (**learned nothing**)"),
        ([0.1, 0.9], " (**learned nothing** with 1 of 2 seeds)"),
        ([0.12, 0.9], ""),
    ],
)
def test_a_variant_that_learned_nothing_is_marked(tree: Path, values: list[float], mark: str) -> None:
    test = RESULTS["metrics/variants/cnn.json"]["test"]
    change(tree, "metrics/variants/cnn.json", test=test | {"accuracy": {"mean": 0.5, "std": 0.5, "values": values}})
    text = tables.rendered(block("results"), Path("page.md"), workspace(tree))
    assert f"\n| `cnn`{mark} | 80,202 |" in text
    assert "\n| `mlp64` | 50,890 |" in text


def test_only_tables_that_differ_are_written(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {page: (tree / page).read_text("utf-8") for page in PAGES}
    tables.main([], tree)
    assert capsys.readouterr().out == "all tables match the results\n"
    change(tree, "metrics/variants/cnn.json", parameters=8765)
    tables.main([], tree)
    assert capsys.readouterr().out == "README.md: table 'results': `cnn`: 80,202 → 8,765\n"
    assert (tree / "README.md").read_text("utf-8") == before["README.md"].replace("80,202 | 99", "8,765 | 99")
    assert (tree / "docs/replication.md").read_text("utf-8") == before["docs/replication.md"]


def test_each_changed_row_is_named_by_its_first_cells(tree: Path) -> None:
    numbers = RESULTS["metrics/published.json"]["numbers"]
    change(tree, "metrics/published.json", numbers=[numbers[0] | {"measured": ONE_SEED}, *numbers[1:]])
    row = "A 7 accuracy 0.95: 0.9251 ± 0.012 → 0.925123, 0.9111 to 0.939 → –"
    assert tables.write(tree) == [f"docs/replication.md: table 'published': {row}"]


def test_results_that_do_not_match_the_lock_are_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(root: Path) -> None:
        assert root == tree
        raise UserError("dvc.lock does not match")

    monkeypatch.setattr(lock, "check", check)
    change(tree, "metrics/variants/cnn.json", parameters=8765)
    before = (tree / "README.md").read_text("utf-8")
    with pytest.raises(SystemExit, match=r"^tables: dvc\.lock does not match$"):
        tables.main([], tree)
    assert (tree / "README.md").read_text("utf-8") == before
    tables.main(["--check"], tree)


def test_numbers_of_another_data_set_are_not_applicable(tree: Path) -> None:
    change(tree, "metrics/published.json", not_applicable="not MNIST")
    for name in ("published", "claims"):
        *_, last, _ = tables.rendered(block(name), Path("page.md"), workspace(tree)).rstrip().splitlines()[:-1]
        assert last.endswith("| not applicable |")


def test_a_page_that_is_not_in_git_yet_is_written(tree: Path) -> None:
    (tree / "docs/new.md").write_text(block("speed"), "utf-8")
    assert tables.write(tree) == ["docs/new.md: table 'speed': written with other rows or columns"]
    assert (tree / "docs/new.md").read_text("utf-8") == block("speed", EXPECTED["speed"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            block("other"),
            f"page.md: 'other' is not a table: the tables are {', '.join(tables.TABLES)}",
        ),
        (
            f"<!-- table: speed -->\n{block('results')}",
            "page.md: table 'speed' has no end: write `<!-- end -->` below it",
        ),
        ("<!-- table: speed -->\nText.\n", "page.md: table 'speed' has no end: write `<!-- end -->` below it"),
        (block("claims"), "metrics/published.json is missing in workspace: type `dvc repro`"),
        (block("results"), "page.md: table 'results' does not fit the files in workspace: KeyError('epochs')"),
    ],
)
def test_a_table_that_cannot_be_written_is_an_error_of_one_line(tree: Path, text: str, message: str) -> None:
    (tree / "metrics/published.json").unlink()
    (tree / "metrics/variants/cnn.json").write_text('{"test": {"accuracy_interval": [0, 1]}, "best": {}}', "utf-8")
    with pytest.raises(UserError) as error:
        tables.rendered(text, Path("page.md"), workspace(tree))
    assert str(error.value) == message


def test_an_error_ends_the_command_with_one_line_and_changes_no_page(tree: Path) -> None:
    (tree / "README.md").write_text(block("speed"), "utf-8")
    (tree / "docs/replication.md").write_text(block("other"), "utf-8")
    with pytest.raises(SystemExit, match=r"^tables: docs/replication.md: 'other' is not a table: [^\n]+$"):
        tables.main([], tree)
    assert (tree / "README.md").read_text("utf-8") == block("speed")


def test_the_check_reads_neither_results_nor_pages_of_the_work_tree(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(tree, "metrics/variants/cnn.json", parameters=8765)
    (tree / "metrics/published.json").unlink()
    (tree / "README.md").write_text(block("other"), "utf-8")
    tables.main(["--check"], tree)
    assert capsys.readouterr().out == "all tables match the results\n"


def test_the_check_names_each_page_and_table_that_is_stale_in_the_commit(tree: Path) -> None:
    change(tree, "metrics/variants/cnn.json", parameters=8765)
    change(tree, "metrics/published.json", claims=[])
    commit(tree)
    tables.write(tree)
    with pytest.raises(SystemExit) as error:
        tables.main(["--check"], tree)
    assert error.value.code == (
        "README.md: table 'results' differs from the committed results: type `make tables`\n"
        "docs/replication.md: table 'claims' differs from the committed results: type `make tables`"
    )
    commit(tree)
    tables.main(["--check"], tree)


def test_the_check_names_tables_that_are_unknown_or_on_no_page(tree: Path) -> None:
    (tree / "README.md").write_text(block("other"), "utf-8")
    commit(tree)
    unknown, *absent = tables.check(tree)
    assert unknown.startswith("README.md: 'other' is not a table: ")
    assert absent == [f"no page has table '{name}': write `<!-- table: {name} -->`" for name in PAGES["README.md"]]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 4, "not run"),
        (float("nan"), 4, "not run"),
        (70000.0, 4, "70,000"),
        (6, 4, "6"),
        (0.438498, 4, "0.4385"),
        (0.438498, 6, "0.438498"),
        (-0.0139, 3, "−0.0139"),
    ],
)
def test_a_number_has_significant_digits_and_a_whole_number_all(value: float | None, digits: int, text: str) -> None:
    assert tables.number(value, digits) == text
