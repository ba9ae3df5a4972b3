"""Damaged files of a user: every reader refuses them in words of its own or reads them; it never crashes or hangs."""

import random
import shutil
import traceback
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from uasbench.common.errors import UasbenchError

from .isolation import EndedError, isolated
from .mutators import header, mixed
from .parts import work_off
from .readers import READERS, Reader

INPUTS = 20_000
BATCH_S = 240
INPUT_S = 30
GIB = 6
LONGEST_MESSAGE = 2000


def meet(name: str, reader: Reader, numbers: list[int], folder: Path) -> tuple[Counter[str], set[str]]:
    """Read one changed file per number; return the outcomes and the faults, each with the first number that had it."""
    counts, faults = Counter[str](), dict[str, int]()
    for number in numbers:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = reader.make(folder)
        path.write_bytes(reader.mutate(path.read_bytes(), random.Random(f"{name} {number}")))
        try:
            reader.read(path)
            counts["accepted"] += 1
        except UasbenchError as refused:
            counts["refused"] += 1
            if len(str(refused)) > LONGEST_MESSAGE:
                faults.setdefault(f"a message of more than {LONGEST_MESSAGE} characters", number)
        except (Exception, SystemExit) as error:
            counts["foreign error"] += 1
            place = traceback.extract_tb(error.__traceback__)[-1]
            faults.setdefault(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}", number)
    return counts, {f"{fault} (input {number})" for fault, number in faults.items()}


def one_by_one(name: str, reader: Reader, numbers: list[int], folder: Path) -> tuple[Counter[str], set[str]]:
    """Do as :func:`meet` where an input ends its process."""
    total, faults = Counter[str](), set[str]()
    for number in numbers:
        try:
            counts, found = isolated(meet, name, reader, [number], folder, seconds=INPUT_S, gib=GIB)
        except EndedError as error:
            counts, found = {"crash or hang": 1}, {f"{error} (input {number})"}
        total.update(counts)
        faults |= found
    return total, faults


def batch(readers: dict[str, Reader], seed: int, folder: Path, counts: Counter[str]) -> None:
    name = [*readers][seed % len(readers)]
    reader, turn = readers[name], seed // len(readers)
    numbers = [*range(turn * reader.batch, (turn + 1) * reader.batch)]
    try:
        found, faults = isolated(meet, name, reader, numbers, folder, seconds=BATCH_S, gib=GIB)
    except EndedError:
        found, faults = one_by_one(name, reader, numbers, folder)
    counts["inputs"] += len(numbers)
    counts.update({f"{name}: {outcome}": count for outcome, count in found.items()})
    assert not faults, f"{name}: {'; '.join(sorted(faults))}"


@pytest.fixture(scope="module")
def bench_import(root, small_whole, tmp_path_factory) -> Reader:
    """Score a folder of maps of another program, one of them changed."""
    from uasbench.benchmark.commands.importing import import_maps
    from uasbench.benchmark.planning.options import validated

    scans = sorted((root / "lits").rglob("volume-*.nii"))
    template = tmp_path_factory.mktemp("maps")
    for scan in scans:
        image = nib.load(scan)
        values = np.abs(np.asanyarray(image.dataobj)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, image.affine), template / scan.name)

    def make(folder: Path) -> Path:
        shutil.copytree(template, folder / "maps")
        return folder / "maps" / scans[0].name

    def read(path: Path) -> object:
        out = path.parents[1] / "run"
        options = validated(
            **{"methods": "all", "datasets": "lits", "data_root": root, "cache": small_whole.cache, "out": out},
            **{"profile": "smoke", "trials": 1},
        )
        return import_maps(path.parent, "other", options, None)

    return Reader(make, mixed(header), read, batch=10)


@pytest.mark.endurance
@pytest.mark.timeout(0)
def test_fuzzed_inputs(ledger, bench_import, tmp_path):
    readers = {**READERS, "bench import": bench_import}

    def trial(seed: int, counts: Counter[str]) -> None:
        batch(readers, seed, tmp_path / "in", counts)

    work_off(ledger, "fuzzed inputs", trial, INPUTS, "inputs")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_reads_its_good_file(name, tmp_path):
    """A table whose samples are refused anyway would count nothing."""
    READERS[name].read(READERS[name].make(tmp_path))
