"""Phantoms on disk: the same bytes for the same seed, whole or not at all, and told from everything else."""

import json

import pytest
from uasbench.common.errors import DataError
from uasbench.datasets.phantom import disk, kidney, liver, lung, pancreas
from uasbench.datasets.phantom.disk import phantom_identity, phantom_of, phantom_root, write_phantom
from uasbench.datasets.phantom.spec import generator_digest

ANATOMIES = ("liver", "lung", "kidney", "pancreas")
SETS = {
    "liver": ["btcv"] * 2 + ["lits"] * 2,
    "lung": ["luna16"] * 3 + ["coronacases"] * 3,
    "kidney": ["btcv-kidney"] * 2 + ["kits23"] * 2,
    "pancreas": ["btcv-pancreas"] * 2 + ["msd-pancreas"] * 2,
}


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_same_seed_same_bytes_and_other_seed_other_voxels(roots, digests, tmp_path, anatomy):
    own = digests(roots[anatomy])
    write_phantom(tmp_path / "same", anatomy=anatomy, seed=3, size="smoke")
    assert digests(tmp_path / "same") == own
    write_phantom(tmp_path / "other", anatomy=anatomy, seed=4, size="smoke")
    other = digests(tmp_path / "other")
    index = {own.pop("Task07_Pancreas/dataset.json", None)}  # lists the files of either seed and holds no voxel
    assert not (set(other.values()) - index) & set(own.values())


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_second_call_returns_what_is_there_and_refuses_anything_else(roots, digests, anatomy):
    root = roots[anatomy]
    before = digests(root)
    assert write_phantom(root, anatomy=anatomy, seed=3, size="smoke")["seed"] == 3
    assert digests(root) == before
    for other in ({"anatomy": anatomy, "seed": 5}, {"anatomy": ANATOMIES[anatomy == "liver"], "seed": 3}):
        with pytest.raises(DataError, match=f"{anatomy} phantom of seed 3"):
            write_phantom(root, size="smoke", **other)


def test_what_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.docx").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "phantom.json").write_text("{")
    (tmp_path / "file").touch()
    for folder, anatomy, size, message in (
        ("thesis", "liver", "smoke", "not empty"),
        ("damaged", "liver", "smoke", r"phantom\.json"),
        ("file/root", "liver", "smoke", "file"),
        ("new", "liver", "huge", "smoke, quick, standard, full"),
        ("new", "brain", "smoke", "liver, lung"),
        ("new", "colon", "smoke", "no phantom of .colon.; use one of kidney, liver, lung, pancreas"),
    ):
        with pytest.raises(DataError, match=message):
            write_phantom(tmp_path / folder, anatomy=anatomy, seed=3, size=size)
    with pytest.raises(DataError, match="writable"):
        phantom_root(tmp_path / "file", anatomy="liver", seed=3, size="smoke")


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_identity_tells_phantoms_from_each_other_and_from_real_data(roots, tmp_path, anatomy):
    info, identity = json.loads((roots[anatomy] / "phantom.json").read_text()), phantom_identity(roots[anatomy])
    assert identity == {key: value for key, value in info.items() if key != "patients"}
    assert [row["set"] for row in info["patients"]] == SETS[anatomy]
    assert (identity["name"], identity["seed"], identity["size"]) == (anatomy, 3, "smoke")
    assert identity["spec_hash"] == disk.maker(anatomy).specification().digest
    hashes = {name: generator_digest(f"uasbench.datasets.phantom.{name}") for name in ANATOMIES}
    assert identity["generator_hash"] == hashes[anatomy]
    assert len(set(hashes.values())) == len(ANATOMIES)
    assert phantom_of([next(path for path in roots[anatomy].rglob("*.nii*"))]) == identity
    assert phantom_identity(tmp_path) is None
    assert phantom_of([tmp_path / "a.nii"]) is None


@pytest.fixture
def no_patients(monkeypatch):
    """Phantoms without patients: the cache treats them like any other, and they take no time."""
    for module in (liver, lung, kidney, pancreas):
        monkeypatch.setattr(module, "write_patients", lambda root, **_: iter(()))


@pytest.mark.usefixtures("no_patients")
class TestCache:
    """What :func:`phantom_root` keeps."""

    def root(self, cache, seed=3):
        return phantom_root(cache, anatomy="liver", seed=seed, size="smoke")

    def test_writes_once_and_only_whole_phantoms(self, tmp_path, monkeypatch):
        root = self.root(tmp_path)
        stamp = (root / "phantom.json").stat().st_mtime_ns
        assert self.root(tmp_path) == root
        assert (root / "phantom.json").stat().st_mtime_ns == stamp

        def interrupted(root, **_):
            (root / "half").touch()
            raise KeyboardInterrupt

        monkeypatch.setattr(liver, "write_patients", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.root(tmp_path, seed=4)
        assert [path.name for path in tmp_path.iterdir()] == [root.name]

    def test_accepts_a_phantom_that_another_process_finished_first(self, tmp_path, monkeypatch):
        write = liver.write_patients

        def race(scratch, **options):
            monkeypatch.setattr(liver, "write_patients", write)
            self.root(tmp_path)
            return write(scratch, **options)

        monkeypatch.setattr(liver, "write_patients", race)
        root = self.root(tmp_path)
        assert (root / "phantom.json").is_file()
        assert [path.name for path in tmp_path.iterdir()] == [root.name]

    def test_name_follows_anatomy_specification_and_generator(self, tmp_path, monkeypatch):
        names = {phantom_root(tmp_path, anatomy=anatomy, seed=3, size="smoke").name for anatomy in ANATOMIES}
        assert {name.split("-")[1] for name in names} == set(ANATOMIES)
        monkeypatch.setattr(disk, "generator_digest", lambda _: "0" * 16)
        assert self.root(tmp_path).name not in names

    def test_what_was_cut_off_by_kill_is_written_again(self, tmp_path):
        root = self.root(tmp_path)
        (root / "phantom.json").unlink()
        (root / "btcv").mkdir()
        assert self.root(tmp_path) == root
        assert (root / "phantom.json").is_file()
        assert not (root / "btcv").exists()
