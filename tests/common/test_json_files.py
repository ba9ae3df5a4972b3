"""JSON from files: it is read, or refused by one kind of error."""

import pytest
from uasbench.common.json_files import parsed, read_json


@pytest.mark.parametrize("content", [b"", b"[", b"[" * 100_000, b'{"a": \xff}', b"no"])
def test_what_is_no_json_is_a_value_error(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".+"):
        read_json(path)


def test_text_and_files_are_read(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('\ufeff{"a": ["ü"]}', encoding="utf-8")
    assert read_json(path) == parsed('{"a": ["ü"]}') == {"a": ["ü"]}
