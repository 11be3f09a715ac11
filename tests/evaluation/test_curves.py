from digits.evaluation import curves

TRAINING = "epoch,loss,accuracy,val_loss,val_accuracy\n1,2.0,0.5,1.5,0.6\n2,1.0,0.75,1.25,0.7\n"
UNVALIDATED = "epoch,loss,accuracy,val_loss,val_accuracy\n1,2.0,0.5,,\n2,1.0,0.75,,\n"
EPOCHS = "epoch,loss,accuracy,confidence_right\n2,1.125,0.6875,\n"


def test_there_is_a_curve_for_each_split_and_for_the_gap() -> None:
    found = curves.learning_curves(TRAINING, EPOCHS)
    assert set(found) == {"train", "validation", "test", "gap"}
    for table in found.values():
        assert table.index.name == "epoch"
    assert found["train"].to_dict("list") == {"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.5, 0.75]}
    assert found["validation"].to_dict("list") == {"epoch": [1, 2], "loss": [1.5, 1.25], "accuracy": [0.6, 0.7]}
    assert found["gap"].loc[1, "loss"] == -0.5
    assert found["gap"].loc[2, "accuracy"] == 0.7 - 0.75


def test_the_test_curve_has_the_checkpoints_alone() -> None:
    table = curves.learning_curves(TRAINING, EPOCHS)["test"]
    assert list(table.index) == [2]
    assert table.loc[2, "accuracy"] == 0.6875
    assert table["confidence_right"].isna().all()


def test_without_held_out_images_there_is_no_validation_curve() -> None:
    assert set(curves.learning_curves(UNVALIDATED, EPOCHS)) == {"train", "test"}


def test_floats_are_read_exactly() -> None:
    assert curves.read_table("epoch,loss\n1,0.30000000000000004\n").loc[1, "loss"] == 0.1 + 0.2
