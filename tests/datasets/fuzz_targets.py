"""The readers that meet damaged files, with sound files for each and what is damaged of them."""

import gzip
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import SimpleITK
from fuzz_damages import BYTES, TEXT, Damage, sheet, word, zipped
from PIL import Image
from segmentations import saved, segmentation
from uasbench.benchmark.commands.exporting import MANIFEST
from uasbench.benchmark.commands.importing import import_maps, read_manifest
from uasbench.benchmark.experiments import load
from uasbench.benchmark.planning.options import parse_queue, validated
from uasbench.datasets.adapters.chaos import CHAOS
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.luna16 import COLUMNS, LUNA16, read_annotations
from uasbench.datasets.adapters.msd import MSDPancreas
from uasbench.datasets.adapters.nifti_pair import read_spacings
from uasbench.datasets.check import check
from uasbench.datasets.dataset import Dataset
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.reading.dicom_io import order_series, read_series
from uasbench.datasets.reading.dicom_tags import read_tags
from uasbench.datasets.reading.mhd_io import read_mhd, read_mhd_labels
from uasbench.datasets.reading.seg_io import read_segment, tracking_of
from uasbench.datasets.reading.side_tables import patients_of, read_table
from uasbench.datasets.reading.slice_labels import read_published, read_slice_labels
from uasbench.datasets.reading.volume_io import read_grid, read_labels, read_map_volume, read_volume

SHAPE = (6, 8, 10)
SPACING = (2.0, 1.5, 1.25)
INDEX = "Task07_Pancreas/dataset.json"

Files = dict[str, bytes]


@dataclass(frozen=True)
class Target:
    """Sound files by name, those of them that are damaged and how, and who reads them from a folder.

    ``read`` raises nothing but :class:`UasbenchError`; it may return messages, which are judged as if raised.
    """

    files: Callable[[], Files]
    damaged: tuple[str, ...]
    damage: tuple[Damage, ...]
    read: Callable[[Path], object]


def _scan() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.normal(40, 20, SHAPE)
    image[0], image[-1] = -1000, -850
    return np.round(image).astype(np.int16)


def _labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 2:6, 1:5] = 1
    labels[2, 3:5, 2:4] = 2
    return labels


def _nifti(lps: np.ndarray, kind: type = nib.Nifti1Image) -> bytes:
    z, y, x = SPACING
    image = kind(lps.T, np.diag([-x, -y, z, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    return image.to_bytes()


def _written(suffix: str, lps: np.ndarray, compressed: bool = False) -> Files:
    """Return the files that SimpleITK writes of a volume, called ``a`` with the suffix."""
    image = SimpleITK.GetImageFromArray(lps)
    image.SetSpacing(SPACING[::-1])
    with tempfile.TemporaryDirectory() as folder:
        SimpleITK.WriteImage(image, f"{folder}/a{suffix}", compressed)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _series() -> Files:
    files = {}
    for z, plane in enumerate(_scan()):
        image = SimpleITK.GetImageFromArray(plane[None])
        image.SetSpacing((1.25, 1.5, 1.0))
        tags = {
            "0008|0060": "CT", "0020|000e": "1.2.3", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0032": f"0\\0\\{2 * z}",
            "0020|0013": str(z + 1),
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        with tempfile.TemporaryDirectory() as folder:
            writer.SetFileName(f"{folder}/a.dcm")
            writer.Execute(image)
            files[f"{z}.dcm"] = Path(folder, "a.dcm").read_bytes()
    return files


def _labelled_rows() -> Files:
    rows = "".join(f"P001,{z},{z % 2}\n" for z in range(6))
    return {"slice_labels.csv": f"case,slice_index,label\n{rows}".encode()}


def _published() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/labels.npy", np.eye(2, 6, dtype=np.float64))
        array = Path(folder, "labels.npy").read_bytes()
    return {"labels.npy": array, "Index.csv": b"Label Index,Folder/ID\n0,P001\n1,P002\n"}


def _luna_set() -> Files:
    image, lungs = np.full((20, 24, 32), -1000, np.int16), np.zeros((20, 24, 32), np.uint8)
    image[:, 3:21, 2:30] = 40
    lungs[2:18, 6:18, 4:14], lungs[2:18, 6:18, 18:28] = 4, 3
    image[lungs > 0] = -850
    masks = {"a.zraw": "seg-lungs-LUNA16/a.zraw", "a.mhd": "seg-lungs-LUNA16/a.mhd"}
    found = {f"subset0/{name}": data for name, data in _written(".mhd", image).items()}
    found |= {masks[name]: data for name, data in _written(".mhd", lungs, compressed=True).items()}
    return found | {"annotations.csv": f"{','.join(COLUMNS)}\na,5,6,10,6\n".encode()}


def _covid_set() -> Files:
    scans = {f"COVID-19 Cases/P001/{name}": data for name, data in _series().items()}
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[1:5, 2:6, 1:5] = 1
    return scans | {"lung_mask/P001.nii": _nifti(lungs)} | _labelled_rows()


def _chaos_set() -> Files:
    found = {f"1/DICOM_anon/{name}": data for name, data in _series().items()}
    for z, plane in enumerate(_scan()):
        stream = io.BytesIO()
        Image.fromarray(plane > 45).save(stream, "png")
        found[f"1/Ground/{z}.png"] = stream.getvalue()
    return found


def _segmented() -> Files:
    zs = (1, 2)
    planes = np.zeros((len(zs), *SHAPE[1:]), bool)
    planes[:, 2:5, 3:6] = True
    places = [(0, 0, SPACING[0] * z) for z in zs]
    file = segmentation(planes, places, SPACING[1:], patient="p", series="1.2.3", uid="1.2.7")
    with tempfile.TemporaryDirectory() as folder:
        return _series() | {"seg.dcm": saved(file, Path(folder, "a.dcm")).read_bytes()}


def _read_segmentation(folder: Path) -> None:
    series = order_series(sorted(folder.glob("[0-9]*.dcm")))
    read_tags(folder / "seg.dcm")
    with warnings.catch_warnings(record=True):  # what pydicom says becomes a note where a case is loaded
        tracking_of(folder / "seg.dcm")
        read_segment(folder / "seg.dcm", series)


def _checked(adapter: type[Dataset], folder: Path) -> list[str]:
    report = check(folder, {adapter.card.name: adapter()})
    foreign = [text for text in report.errors if "not an error of the data alone" in text]
    if foreign:
        raise TypeError(foreign[0])
    return report.errors


def _experiment() -> Files:
    import uasbench.experiments

    folder = Path(uasbench.experiments.__file__).parent
    return {"plan.yaml": (folder / "lung" / "table4.yaml").read_bytes()}


@cache
def _import() -> Files:
    """Return the smallest phantom of the liver, and its test scans as the maps of another program."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom(Path(folder), anatomy="liver", seed=0, size="smoke")
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        files = {f"data/{path.relative_to(folder)}": path.read_bytes() for path in paths}
        for path in (path for path in paths if path.name.startswith("volume-") and "lits" in path.parts):
            scan = nib.load(path)
            image = nib.Nifti1Image(np.asanyarray(scan.dataobj).astype(np.float32), scan.affine)
            files[f"maps/{path.name}"] = image.to_bytes()
    return files


def _imported(folder: Path) -> object:
    options = validated(
        methods="all", datasets="lits", data_root=folder / "data", cache=folder / "cache", out=folder / "run",
        profile="smoke", trials=1,
    )  # fmt: skip
    return import_maps(folder / "maps", "other", options, None)


def _labels_of_scan(folder: Path) -> object:
    return read_labels(folder / "seg.nii", read_volume(folder / "ct.nii"), {0, 1, 2})


def _mhd_labels(folder: Path) -> object:
    shutil.copytree(folder, folder / "sound", ignore=shutil.ignore_patterns("a.*"))
    return read_mhd_labels(folder / "a.mhd", read_mhd(folder / "sound" / "ct.mhd"), {0, 1, 2})


def _with_scan() -> Files:
    scan = _written(".mha", _scan())["a.mha"]
    return {"ct.mhd": scan, **_written(".mhd", _labels(), compressed=True)}


def _annotations() -> Files:
    return {"annotations.csv": f"{','.join(COLUMNS)}\n1.2.3,-5.5,6,10.25,6\n1.2.4,1,2,3,4\n".encode()}


def _workbook() -> Files:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for row in (["study_id", "category"], [255, "CT-1"], ["1", "CT-0"]):
        book.worksheets[0].append(row)
    book.save(buffer)
    return {"registry.xlsx": buffer.getvalue()}


def _decathlon() -> Files:
    index = {
        "tensorImageSize": "3D", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
        "training": [{"image": "./imagesTr/pancreas_1.nii.gz", "label": "./labelsTr/pancreas_1.nii.gz"}],
        "numTraining": 1, "test": [],
    }  # fmt: skip
    arrays = {"imagesTr": _scan(), "labelsTr": _labels()}
    scans = {f"{folder}/pancreas_1.nii.gz": gzip.compress(_nifti(lps), mtime=0) for folder, lps in arrays.items()}
    return {f"Task07_Pancreas/{name}": data for name, data in scans.items()} | {INDEX: json.dumps(index).encode()}


def _manifest() -> Files:
    cell = {"method": "ae", "dataset": "lits", "train": "btcv", "seed": 0}
    said = {"schema": 1, "own_masks": True, "cell": cell, "native_threshold": 0.5, "region": "roi"}
    return {MANIFEST: json.dumps(said).encode()}


def _read(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    return lambda folder: read(folder / name)


def _one(name: str, lps: Callable[[], np.ndarray], kind: type = nib.Nifti1Image) -> Callable[[], Files]:
    return cache(lambda: {name: _nifti(lps(), kind)})


def _floats() -> np.ndarray:
    return _scan().astype(np.float64)


TARGETS: dict[str, Target] = {
    "nifti volume": Target(
        _one("a.nii.gz", _scan), ("a.nii.gz",), (*BYTES, zipped), _read(read_volume, "a.nii.gz")
    ),
    "nifti-2 volume": Target(
        _one("a.nii", _scan, nib.Nifti2Image), ("a.nii",), BYTES, _read(read_volume, "a.nii")
    ),
    "nifti floats": Target(
        _one("a.nii", _floats), ("a.nii",), BYTES, _read(read_volume, "a.nii")
    ),
    "nifti grid": Target(_one("a.nii", _scan), ("a.nii",), BYTES, _read(read_grid, "a.nii")),
    "nifti map": Target(
        _one("a.nii", _floats), ("a.nii",), BYTES, _read(read_map_volume, "a.nii")
    ),
    "nifti labels": Target(
        cache(lambda: {"ct.nii": _nifti(_scan()), "seg.nii": _nifti(_labels())}), ("seg.nii",), (*BYTES, zipped),
        _labels_of_scan,
    ),
    "mhd volume": Target(
        cache(lambda: _written(".mhd", _scan())), ("a.mhd",), TEXT, _read(read_mhd, "a.mhd")
    ),
    "mhd voxels": Target(
        cache(lambda: _written(".mhd", _scan(), True)), ("a.mhd", "a.zraw"), (*BYTES, word),
        _read(read_mhd, "a.mhd")
    ),
    "mhd labels": Target(cache(_with_scan), ("a.mhd",), TEXT, _mhd_labels),
    "dicom series": Target(
        cache(_series), ("2.dcm",), BYTES, lambda f: read_series(order_series(sorted(f.glob("*.dcm"))))
    ),
    "dicom segmentation": Target(cache(_segmented), ("seg.dcm",), BYTES, _read_segmentation),
    "annotations": Target(cache(_annotations), ("annotations.csv",), TEXT, _read(read_annotations, "annotations.csv")),
    "patients": Target(
        lambda: {"patients.csv": b"set,case,patient\nlits,volume-0,p1\nlits,volume-1,p1\n"},
        ("patients.csv",),
        TEXT,
        lambda f: patients_of(f, "lits", ["volume-0", "volume-1"])[1],
    ),
    "workbook": Target(
        cache(_workbook), ("registry.xlsx",), (*BYTES, sheet, sheet),
        lambda f: read_table(f / "registry.xlsx", ("study_id", "category")) and None,
    ),
    "spacings": Target(
        lambda: {"spacing.csv": b"case,z,y,x\nvolume-0,2,1.5,1.25\nlits:volume-1,1,1,1\n"},
        ("spacing.csv",),
        TEXT,
        lambda f: read_spacings(f, "lits") and None,
    ),
    "slice labels": Target(
        cache(_labelled_rows), ("slice_labels.csv",), TEXT,
        lambda f: read_slice_labels(f / "slice_labels.csv").of("P001", 6).any(),
    ),
    "published labels": Target(
        cache(_published), ("labels.npy", "labels.npy", "Index.csv"), (*BYTES, word),
        lambda f: read_published(f / "Index.csv", f / "labels.npy"),
    ),
    "experiment": Target(cache(_experiment), ("plan.yaml",), TEXT, lambda f: load(str(f / "plan.yaml"))),
    "lits set": Target(
        cache(lambda: {"volume-0.nii": _nifti(_scan()), "segmentation-0.nii": _nifti(_labels())}),
        ("volume-0.nii", "segmentation-0.nii"), (*BYTES, zipped), lambda f: _checked(LiTS, f),
    ),
    "luna16 set": Target(
        cache(_luna_set), ("subset0/a.mhd", "seg-lungs-LUNA16/a.mhd", "annotations.csv"), TEXT,
        lambda f: _checked(LUNA16, f),
    ),
    "chaos set": Target(
        cache(_chaos_set), ("1/DICOM_anon/1.dcm", "1/Ground/1.png", "1/Ground/2.png"), BYTES,
        lambda f: _checked(CHAOS, f),
    ),
    "decathlon set": Target(cache(_decathlon), (INDEX,), TEXT, lambda f: _checked(MSDPancreas, f)),
    "export manifest": Target(cache(_manifest), (MANIFEST,), TEXT, lambda f: read_manifest(f, "lits", None) and None),
    "queue settings": Target(
        lambda: {"queue.toml": b'partition = "gpu"\nmem = 8\n\n[more]\nqos = ["a", 1.5]\n'},
        ("queue.toml",),
        TEXT,
        lambda f: parse_queue([str(f / "queue.toml")]) and None,
    ),
    "bench import": Target(_import, ("maps/volume-0.nii", "maps/volume-1.nii"), (*BYTES, zipped), _imported),
    "covid-ct-md set": Target(
        cache(_covid_set), ("COVID-19 Cases/P001/1.dcm", "lung_mask/P001.nii", "slice_labels.csv"), (*BYTES, word),
        lambda f: _checked(CovidCTMD, f),
    ),
}  # fmt: skip
