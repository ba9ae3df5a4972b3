from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.errors import DataError
from uasbench.datasets.reading.slice_labels import SliceLabels, read_published, read_slice_labels


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


@pytest.mark.parametrize("index", ["²", "-1", "1.0", "9" * 5000])
def test_odd_slice_numbers_are_refused_in_few_words(tmp_path, index):
    path = tmp_path / "slice_labels.csv"
    path.write_text(f"case,slice_index,label\na,{index},1\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2: slice_index") as refused:
        read_slice_labels(path)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "values",
    [
        np.array([["a", "b"]]),
        np.array([["2020-01-01"]], dtype="datetime64[D]"),
        np.zeros(3, dtype=[("x", int)]),
        np.zeros((1, 2), complex),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "Index.csv").write_text("Label Index,Diagnosis,Relative Path,Folder/ID\n0,CAP,./,c0\n")
    with pytest.raises(DataError, match="holds no numbers"):
        read_published(tmp_path / "Index.csv", tmp_path / "a.npy")


@given(st.integers(0, 127), st.integers(0, 255))
def test_a_changed_byte_of_an_array_header_is_refused_or_harmless(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("array")
    np.save(folder / "a.npy", np.eye(2, 8, dtype=int))
    data = bytearray((folder / "a.npy").read_bytes())
    data[place] = value
    (folder / "a.npy").write_bytes(data)
    (folder / "Index.csv").write_text("Label Index,Diagnosis,Relative Path,Folder/ID\n0,CAP,./,c0\n1,CAP,./,c1\n")
    with suppress(DataError):
        read_published(folder / "Index.csv", folder / "a.npy")
