import pytest
from uasbench.datasets.adapters.surveying import find_files


def test_names_links_and_hidden_files(tmp_path):
    for name in ("a/1.mhd", "a/1.raw", "b/2.MHD", "b/.hidden.mhd", ".cache/3.mhd", "c/x1.mhd.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "b")
    found = find_files(tmp_path, r".+\.mhd")
    assert [path.name for path in found] == ["1.mhd", "2.MHD"]
    with pytest.raises(OSError, match="nowhere"):
        find_files(tmp_path / "nowhere", ".*")
