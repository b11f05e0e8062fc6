import time

import pytest

from belvedere.data.split_names import fill_splits, find_splits, is_filler, split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train Training training_set train_images Train_data train-images 01_train train2017 TrainSet seg_train",
        ),
        ("train", "Trainingsdaten entrainement entraînement apprentissage données_apprentissage resized_train trn"),
        ("val", "val valid validation dev dev_set Validierung Validierungsbilder val2017 jeu_de_validation"),
        ("test", "test testing test1 test_set TestImages eval evaluation holdout hold-out Testdaten Prüfdaten"),
    ],
)
def test_names_of_splits(split: str, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    "name",
    ["trains", "restrain", "train_model", "valley", "contest", "steam train", "train_test", "images", "", "12", "é"],
)
def test_other_names(name: str) -> None:
    assert split_of(name) is None


def test_names_with_a_word_in_common_are_splits_together() -> None:
    assert find_splits(["flowers_train", "flowers_test", "pets_train", "val", "tulip"]) == {
        "flowers_train": "train",
        "flowers_test": "test",
        "val": "val",
    }


def test_fillers() -> None:
    assert [is_filler(name) for name in ("images", "Bilder", "data_set", "train", "cat", "")] == [True] * 3 + [
        False
    ] * 3


def test_a_long_name_takes_no_long_time() -> None:
    start = time.process_time()
    assert split_of("dataset" * 5000 + "x") is None
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("given", "filled"), [([None, "test"], ["train", "test"]), ([None, None], [None, None]), ([], [])]
)
def test_images_without_a_split_are_for_training_if_others_have_one(
    given: list[str | None], filled: list[str | None]
) -> None:
    assert fill_splits(given) == filled
