"""Every reader under seeded damage: it reads, or refuses in few words that name the file (``fuzzing.py``)."""

import sys
from pathlib import Path

import pytest
from uasbench.datasets.readers import Readers

sys.path.insert(0, str(Path(__file__).parent))  # readers import the module by its name too
import fuzzing

FEWER = {
    "bench import": 5,
    "dicom series": 12,
    "chaos set": 12,
    "covid-ct-md set": 10,
    "lits set": 25,
    "luna16 set": 25,
    "experiment": 30,
}
TARGETS = [pytest.param(name, marks=pytest.mark.slow if name == "bench import" else ()) for name in fuzzing.TARGETS]


@pytest.fixture(scope="module")
def readers():
    with Readers(limit_s=300) as found:
        yield found


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_or_refused(readers, target):
    tally = readers.one(fuzzing.fuzz, fuzzing.Batch(target, count=FEWER.get(target, 60)))
    assert tally.faults == {}
    assert set(tally.outcomes) <= {"read", "refused"}


@pytest.mark.parametrize("target", TARGETS)
def test_sound_files_are_read(tmp_path, target):
    chosen = fuzzing.TARGETS[target]
    for name, data in chosen.files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert not isinstance(found := chosen.read(tmp_path), list) or found == []
