"""What reads files of a user: how to write a good file, how to change it, how it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .mutators import Mutator, header, mixed, text, zipped

SHAPE = (12, 12, 6)


class Reader(NamedTuple):
    """``make(folder)`` writes good files and returns the one that is changed; ``read(path)`` reads it."""

    make: Callable[[Path], Path]
    mutate: Mutator
    read: Callable[[Path], Any]
    batch: int = 100


def _values(kind: type) -> np.ndarray:
    """Grey levels of a CT, or few labels where the numbers are small ones."""
    numbers = np.arange(np.prod(SHAPE))
    return (numbers % 3 if kind is np.uint8 else numbers * 7 % 1400 - 1000).astype(kind)


def _nifti(name: str, kind: type = np.int16) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import nibabel as nib

        values = _values(kind).reshape(SHAPE)
        nib.save(nib.Nifti1Image(values, np.diag([0.8, 0.8, 5.0, 1.0])), folder / name)
        return folder / name

    return make


def _meta(changed: str, kind: type = np.int16) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import SimpleITK as sitk

        values = _values(kind).reshape(SHAPE[::-1])
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "a.mhd"), useCompression=True)
        return folder / changed

    return make


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return make


def _npy(folder: Path) -> Path:
    lines = [f"{i},CAP,./,c{i}" for i in range(3)]
    (folder / "Index.csv").write_text("\n".join(["Label Index,Diagnosis,Relative Path,Folder/ID", *lines]))
    np.save(folder / "a.npy", np.eye(3, 8, dtype=int))
    return folder / "a.npy"


def _read_labels(path: Path) -> Any:
    from uasbench.datasets.reading.volume_io import read_labels, read_volume

    return read_labels(path, read_volume(_nifti("like.nii")(path.parent)), (0, 1, 2))


def _read_mhd_labels(path: Path) -> Any:
    from uasbench.datasets.reading.mhd_io import read_mhd, read_mhd_labels

    like = path.parent / "like"
    like.mkdir(exist_ok=True)
    return read_mhd_labels(path, read_mhd(_meta("a.mhd")(like)), range(3))


def _named(module: str, function: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        from importlib import import_module

        return getattr(import_module(f"uasbench.{module}"), function)(path)

    return read


def _read_patients(path: Path) -> Any:
    from uasbench.datasets.reading.side_tables import patients_of

    return patients_of(path.parent, "lits", ["volume-0", "volume-1"])


def _read_published(path: Path) -> Any:
    from uasbench.datasets.reading.slice_labels import read_published

    return read_published(path.with_name("Index.csv"), path.with_name("a.npy"))


def _read_experiment(path: Path) -> Any:
    from uasbench.benchmark.planning.options import experiment_options

    return experiment_options(str(path))


EXPERIMENT = """\
title: A table
dataset: lits
methods: hu-deviation,ae
variants:
  - {label: slow, method: ae, set: {lr: 0.0001}}
seeds: 2
profile: quick
reference: ae@slow
notes: none
"""
READERS: dict[str, Reader] = {
    "read_volume": Reader(_nifti("a.nii"), mixed(header), _named("datasets.reading.volume_io", "read_volume")),
    "read_volume, gzip": Reader(
        _nifti("a.nii.gz"), zipped(mixed(header)), _named("datasets.reading.volume_io", "read_volume")
    ),
    "read_map_volume": Reader(
        _nifti("a.nii", np.float32), mixed(header), _named("datasets.reading.volume_io", "read_map_volume")
    ),
    "read_labels": Reader(_nifti("a.nii", np.uint8), mixed(header), _read_labels),
    "read_grid": Reader(_nifti("a.nii"), mixed(header), _named("datasets.reading.volume_io", "read_grid")),
    "read_mhd": Reader(_meta("a.mhd"), mixed(text), _named("datasets.reading.mhd_io", "read_mhd")),
    "read_mhd, voxels": Reader(
        _meta("a.zraw"),
        mixed(header),
        lambda path: _named("datasets.reading.mhd_io", "read_mhd")(path.with_suffix(".mhd")),
    ),
    "read_mhd_labels": Reader(_meta("a.mhd", np.uint8), mixed(text), _read_mhd_labels),
    "annotations.csv": Reader(
        _text("annotations.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\na,1.5,-2,3,4\nb,1,2,3,10.25\n"),
        mixed(text),
        _named("datasets.adapters.luna16", "read_annotations"),
    ),
    "patients.csv": Reader(
        _text("patients.csv", "set,case,patient\nlits,volume-0,p0\nlits,volume-1,p1\n"), mixed(text), _read_patients
    ),
    "slice_labels.csv": Reader(
        _text("slice_labels.csv", "case,slice_index,label\na,0,1\na,1,0\nb,0,0\n"),
        mixed(text),
        _named("datasets.reading.slice_labels", "read_slice_labels"),
    ),
    "Slice-level-labels.npy": Reader(_npy, mixed(header), _read_published),
    "experiment": Reader(_text("e.yaml", EXPERIMENT), mixed(text), _read_experiment),
}
