import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from uasbench.common.fingerprint import array_digest, file_digest


def test_digest_follows_the_bytes_not_the_name(tmp_path):
    (tmp_path / "a").write_bytes(b"scan")
    (tmp_path / "b").write_bytes(b"scan")
    (tmp_path / "c").write_bytes(b"scam")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")


@given(st.lists(st.integers(-1024, 3071), min_size=1, max_size=20))
def test_array_digest_sees_values_dtype_and_shape(values):
    array = np.array(values, dtype=np.int16)
    assert array_digest(array) == array_digest(np.array(values, dtype=">i2"))
    assert array_digest(array) == array_digest(np.repeat(array, 2)[::2])
    assert array_digest(array) != array_digest(array.astype(np.float32))
    assert array_digest(array) != array_digest(array[None])
    changed = array.copy()
    changed[-1] += 1
    assert array_digest(array) != array_digest(changed)
    assert array_digest(array, array) != array_digest(array)
    assert array_digest(np.zeros((0, 3), bool)) != array_digest(np.zeros((3, 0), bool))
