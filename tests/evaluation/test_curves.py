import pytest

from digits.evaluation import curves

TRAINING = (
    "epoch,seed,loss,accuracy,val_loss,val_accuracy\n"
    "1,0,2.0,0.5,1.5,0.6\n1,7,3.0,0.25,2.5,0.4\n2,0,1.0,0.75,1.25,0.7\n2,7,1.0,0.5,1.0,0.7\n"
)
UNVALIDATED = "epoch,seed,loss,accuracy,val_loss,val_accuracy\n1,0,2.0,0.5,,\n2,0,1.0,0.75,,\n"
EPOCHS = "epoch,seed,loss,accuracy,confidence_right\n2,0,1.125,0.6875,\n2,7,1.375,0.8125,0.5\n"


def test_there_is_a_curve_for_each_split_and_for_the_gap() -> None:
    found = curves.learning_curves(TRAINING, EPOCHS, held_out=True)
    assert set(found) == {"train", "validation", "test", "gap"}
    for table in found.values():
        assert list(table.columns[:4]) == ["epoch", "seed", "loss", "accuracy"]
    columns = {"epoch": [1, 1, 2, 2], "seed": [0, 7, 0, 7]}
    losses = {"loss": [2.0, 3.0, 1.0, 1.0], "accuracy": [0.5, 0.25, 0.75, 0.5]}
    assert found["train"].to_dict("list") == columns | losses
    losses = {"loss": [1.5, 2.5, 1.25, 1.0], "accuracy": [0.6, 0.4, 0.7, 0.7]}
    assert found["validation"].to_dict("list") == columns | losses
    assert found["gap"]["seed"].tolist() == [0, 7, 0, 7]
    assert found["gap"]["loss"].tolist() == [-0.5, -0.5, 0.25, 0.0]
    assert found["gap"]["accuracy"].tolist() == pytest.approx([0.1, 0.15, -0.05, 0.2])
    assert found["test"]["epoch"].tolist() == [2, 2]  # of the checkpoints alone
    assert found["test"]["accuracy"].tolist() == [0.6875, 0.8125]
    assert found["test"]["confidence_right"].isna().tolist() == [True, False]
    assert set(curves.learning_curves(UNVALIDATED, EPOCHS, held_out=False)) == {"train", "test"}


def test_floats_are_read_exactly() -> None:
    assert curves.read_table("epoch,loss\n1,0.30000000000000004\n").loc[0, "loss"] == 0.1 + 0.2


def test_a_curve_over_seeds_has_a_mean_and_a_sample_standard_deviation_for_each_epoch() -> None:
    found = curves.over_seeds(curves.learning_curves(TRAINING, EPOCHS, held_out=True)["train"])
    assert found.index.name == "epoch"
    assert found.index.tolist() == [1, 2]
    assert set(found.columns) == {"loss", "loss_std", "accuracy", "accuracy_std"}
    assert found["loss"].tolist() == [2.5, 1.0]
    assert found["loss_std"].tolist() == pytest.approx([0.5**0.5, 0])
    assert found["accuracy"].tolist() == [0.375, 0.625]
    assert found["accuracy_std"].tolist() == pytest.approx([(2 * 0.125**2) ** 0.5] * 2)
    found = curves.over_seeds(curves.learning_curves(UNVALIDATED, EPOCHS, held_out=False)["train"])
    assert found["loss"].tolist() == [2.0, 1.0]
    assert found["loss_std"].isna().all()
    assert found["accuracy_std"].isna().all()
