"""Sealed files: digests of a text, and those of values as earlier versions wrote them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.sealed import DamagedError, is_whole, read_sealed, seal, with_digest, write_sealed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONTENTS = st.dictionaries(st.text().filter(lambda key: key not in ("digest", "files")), VALUES, max_size=4)


@given(CONTENTS)
def test_what_was_written_is_read_whatever_it_holds(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("sealed") / "file.json"
    for indent in (1, None):
        write_sealed(path, content, indent)
        read = read_sealed(path)
        assert {key: value for key, value in read.items() if key != "digest"} == content
        assert is_whole(path.read_bytes())


@given(st.data())
def test_any_other_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("sealed") / "file.json"
    write_sealed(path, {"dice": 0.5, "cases": ["volume-0", "volume-1"], "files": {}})
    text = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(text)
    with pytest.raises(DamagedError):
        read_sealed(path)


def test_a_file_of_an_earlier_version_has_the_digest_of_its_values(tmp_path):
    path = tmp_path / "file.json"
    old = seal({"dice": 0.5})
    path.write_text(json.dumps(old, indent=4))
    assert read_sealed(path) == old
    path.write_text(json.dumps(old | {"dice": 0.6}))
    with pytest.raises(DamagedError, match="digest differs"):
        read_sealed(path)


def test_the_digest_of_a_text_is_replaced_not_counted(tmp_path):
    path = tmp_path / "file.json"
    for content in ({}, {"dice": 0.5}):
        write_sealed(path, content)
        written = path.read_bytes()
        write_sealed(path, read_sealed(path))
        assert path.read_bytes() == written == with_digest(json.dumps(content, indent=1) + "\n")
