"""Seeded damage to the files that people hand over, and what may come of it: a refusal in few words, or a reading.

``fuzz(Batch(target, seed, count))`` can run in a reader process (:class:`uasbench.datasets.readers.Readers`), so that
also a crash is found; each number of a batch makes the same damage on every machine. The folder of this file has to be
on ``sys.path`` there.
"""

import gzip
import io
import json
import random
import shutil
import struct
import tempfile
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import SimpleITK
from PIL import Image
from segmentations import saved, segmentation
from uasbench.benchmark.commands.exporting import MANIFEST
from uasbench.benchmark.commands.importing import import_maps, read_manifest
from uasbench.benchmark.experiments import load
from uasbench.benchmark.planning.options import parse_queue, validated
from uasbench.common.errors import UasbenchError
from uasbench.datasets.adapters.chaos import CHAOS
from uasbench.datasets.adapters.covid_ct_md import CovidCTMD
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.luna16 import COLUMNS, LUNA16, read_annotations
from uasbench.datasets.adapters.msd import MSDPancreas
from uasbench.datasets.adapters.nifti_pair import read_spacings
from uasbench.datasets.check import check
from uasbench.datasets.dataset import Dataset
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.readers import printed
from uasbench.datasets.reading.dicom_io import order_series, read_series
from uasbench.datasets.reading.dicom_tags import read_tags
from uasbench.datasets.reading.mhd_io import read_mhd, read_mhd_labels
from uasbench.datasets.reading.seg_io import read_segment, tracking_of
from uasbench.datasets.reading.side_tables import patients_of, read_table
from uasbench.datasets.reading.slice_labels import read_published, read_slice_labels
from uasbench.datasets.reading.volume_io import read_grid, read_labels, read_map_volume, read_volume

LONGEST = 600
"""Characters of a message beside the paths in it."""
SHAPE = (6, 8, 10)
INDEX = "Task07_Pancreas/dataset.json"
SPACING = (2.0, 1.5, 1.25)

Files = dict[str, bytes]
Damage = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """Sound files by name, those of them that are damaged and how, and who reads them from a folder.

    ``read`` raises nothing but :class:`UasbenchError`; it may return messages, which are judged as if raised.
    """

    files: Callable[[], Files]
    damaged: tuple[str, ...]
    damage: tuple[Damage, ...]
    read: Callable[[Path], object]


@dataclass(frozen=True)
class Batch:
    """Damages number ``first`` to ``first + count - 1`` of a target."""

    target: str
    first: int = 0
    count: int = 100


@dataclass
class Tally:
    """What came of a batch: how often what, and by number of the damage what must not be."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(batch: Batch) -> Tally:
    """Damage the files of a target, read them, and judge what comes out."""
    tally = Tally()
    for number in range(batch.first, batch.first + batch.count):
        with tempfile.TemporaryDirectory() as folder:
            damage(batch.target, number, Path(folder))
            outcome, fault = _judged(TARGETS[batch.target], Path(folder))
        tally.outcomes[outcome] += 1
        if fault:
            tally.faults[number] = fault
    return tally


def damage(target: str, number: int, folder: Path) -> None:
    """Write the files of a target with damage number ``number``."""
    chosen = TARGETS[target]
    rng = random.Random(f"{target} {number}")
    files = dict(chosen.files())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(chosen.damaged)
        files[name] = rng.choice(chosen.damage)(rng, files[name])
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def _judged(target: Target, folder: Path) -> tuple[str, str | None]:
    printed()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = target.read(folder)
            messages = [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
            outcome = "refused" if messages else "read"
        except UasbenchError as error:
            messages, outcome = [str(error)], "refused"
        except Exception as error:
            return "foreign", f"{type(error).__name__}: {str(error)[:300]}"
    for message in messages:
        rest = message.replace(str(folder), "")
        if rest == message:
            return outcome, f"names no file: {message[:300]}"
        if len(rest) > LONGEST or any(unicodedata.category(sign) == "Cc" for sign in rest.replace("\n", "")):
            return outcome, f"{len(rest)} characters: {rest[:300]!r}"
    said = [str(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]
    if outcome == "read":  # a library that complains and goes on has read something else than what was meant
        said += [line for line in printed().splitlines() if line.strip()]
    return outcome, f"said: {said[0][:300]}" if said else None


def flip(rng: random.Random, data: bytes) -> bytes:
    """Change single bits, most of them near the front, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64)) if data else 0):
        top = len(data) if rng.random() < 0.3 else min(len(data), 400)
        changed[rng.randrange(top)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Cut the end off, or a piece out."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] if rng.random() < 0.5 else data[:a] + data[b:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    """Repeat a piece, or append zeros or noise."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:b] + data[a:], data + b"\0" * rng.randrange(1, 5000), data + rng.randbytes(300)))


def number(rng: random.Random, data: bytes) -> bytes:
    """Write a number that breaks sums over a place in the first 400 bytes."""
    odd = rng.choice((0.0, -1.0, 1e30, -1e30, 1e300, 2.0**31, 2.0**63, float("nan"), float("inf"), float("-inf")))
    whole = int(odd) if abs(odd) < 1e30 else rng.randrange(2**63)
    order = rng.choice("<>")
    text = rng.choice(
        (
            lambda: struct.pack(f"{order}f", np.float32(min(max(odd, -3e38), 3e38))),
            lambda: struct.pack(f"{order}d", odd),
            lambda: struct.pack(f"{order}h", (whole + 2**15) % 2**16 - 2**15),
            lambda: struct.pack(f"{order}q", (whole + 2**63) % 2**64 - 2**63),
        )
    )()
    place = 2 * rng.randrange(max(1, min(len(data), 400) // 2))
    return data[:place] + text + data[place + len(text) :]


def zipped(rng: random.Random, data: bytes) -> bytes:
    """Compress, also twice, in pieces, with junk behind or with damage inside."""
    once = gzip.compress(data, 1)
    return rng.choice((once, gzip.compress(once), once + b"junk", once + once, flip(rng, once), cut(rng, once)))


def sheet(rng: random.Random, data: bytes) -> bytes:
    """Pack a workbook again after a word of its sheet was changed, where no other damage keeps it from being read."""
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as before:
            parts = {name: before.read(name) for name in before.namelist()}
    except Exception:
        return data
    with zipfile.ZipFile(buffer, "w") as after:
        for name, part in parts.items():
            after.writestr(name, word(rng, part) if name.endswith("sheet1.xml") else part)
    return buffer.getvalue()


_WORDS = (
    "", " ", "0", "-1", "1.5", "nan", "inf", "-inf", "1e300", "1e-300", "²", "٣", "9" * 5000, "9" * 19, "x" * 20_000,
    "None", "True", "LIST", "LOCAL", "a.raw", "../a.raw", "/etc/passwd", "%d", "\0", "\x1b[31m", '"', "'", ",", ";",
    "=", ":", "\ufeff", "\u00a0", "\r", "\n", "\t", "1 1", "1 1 1 1", "1000", "1000000", "[", "{", "]", "}", "&a", "*a",
    "!!python/object/apply:os.getpid []", "<<: *a", "- ", "? ", "| ", "[" * 3000, "=HYPERLINK(1)",
)  # fmt: skip


def word(rng: random.Random, data: bytes) -> bytes:
    """Replace, insert or delete a word, a number or a sign between them."""
    parts = _split(data)
    at = rng.randrange(len(parts)) if parts else 0
    odd = rng.choice(_WORDS).encode()
    parts[at : at + rng.choice((0, 1, 1, 1))] = [odd] if rng.random() < 0.9 else []
    return b"".join(parts)


def line(rng: random.Random, data: bytes) -> bytes:
    """Delete, repeat, swap or lengthen lines."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(4)
    if way == 0:
        del lines[a]
    elif way == 1:
        lines.insert(a, lines[b])
    elif way == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] = lines[a].rstrip() + b"," * rng.choice((1, 400)) + b"\n"
    return b"".join(lines)


def encoding(rng: random.Random, data: bytes) -> bytes:
    """Write the text in another encoding."""
    text = data.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "cp037")), "replace")


def _split(data: bytes) -> list[bytes]:
    parts, last = [], None
    for sign in data:
        kind = chr(sign).isalnum() or sign in b"._-+"
        if kind and last:
            parts[-1] += bytes([sign])
        else:
            parts.append(bytes([sign]))
        last = kind
    return parts


BYTES: tuple[Damage, ...] = (flip, cut, repeat, number)
TEXT: tuple[Damage, ...] = (word, word, word, line, flip, cut, encoding)


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
