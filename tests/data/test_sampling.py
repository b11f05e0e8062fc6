from belvedere.data.sampling import evenly_spaced


def test_indices_cover_all_rows_and_repeat_only_if_there_are_too_few() -> None:
    assert evenly_spaced(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(9, 3).tolist() == [0, 4, 8]
    assert evenly_spaced(2, 4).tolist() == [0, 0, 0, 1]
