from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.reading.slice_labels import SliceLabels, read_published


@pytest.mark.parametrize(
    ("rows", "numbers", "used"),
    [
        (3, [0, 1, 3], [0, 1, 2]),
        (4, [0, 1, 2], [0, 1, 2]),
        (3, [0, 1, 2], [0, 1, 2]),
        (4, [0, 1, 3], None),
        (2, [0, 1, 2], None),
    ],
)
def test_rows_behind_a_gap_in_the_numbers(tmp_path, rows, numbers, used):
    array, index = tmp_path / "a.npy", tmp_path / "Index.csv"
    np.save(array, np.eye(rows, 8, dtype=int))
    lines = [f"{n},CAP,./,c{i}" for i, n in enumerate(numbers)]
    index.write_text("\n".join(["Label Index,Diagnosis,Relative Path,Folder/ID", *lines]))
    if used is None:
        with pytest.raises(DataError, match=f"{rows} rows"):
            read_published(index, array)
    else:
        labels = read_published(index, array)
        assert [int(labels.of(f"c{i}", 8).argmax()) for i in range(len(numbers))] == used


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 40), st.booleans())
def test_labels_fit_exactly_or_are_refused(values, count, padded):
    labels = SliceLabels((Path("table"),), {"a": dict(enumerate(values))}, padded=padded)
    behind = any(values[count:]) if padded else len(values) > count
    if behind or len(values) < count:
        with pytest.raises(DataError, match="table: a has"):
            labels.of("a", count)
    else:
        assert labels.of("a", count).tolist() == values[:count]
    with pytest.raises(DataError, match="no labels of b"):
        labels.of("b", count)
