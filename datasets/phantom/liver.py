"""The liver phantom on disk: healthy patients in the layout of BTCV, lesion patients in the layout of LiTS."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..atomic import new_folder
from ..errors import DataError
from ..seeds import derive
from .anatomy import LABELS
from .nifti import write_nifti
from .patient import Patient, make_patient
from .spec import SizePlan, Spec, generator_digest, liver_spec
from .tumours import Index

Size = Literal["smoke", "quick", "full"]
INFO = "phantom.json"
BTCV_IDS = (*range(1, 11), *range(21, 41))  # the ids of the published training set


def describe(*, seed: int, size: str) -> dict[str, Any]:
    """Return what identifies a phantom: name, version, hash of the specification, hash of the generator, seed, size.

    Raises:
        DataError: there is no such size.
    """
    spec = liver_spec()
    spec.size(size)
    return {
        "name": spec.values["name"],
        "version": spec.version,
        "spec_hash": spec.digest,
        "generator_hash": generator_digest(),
        "seed": int(seed),
        "size": size,
    }


def patients(*, seed: int, size: str, spec: Spec | None = None) -> Iterator[tuple[str, str, Patient]]:
    """Yield set (``btcv`` or ``lits``), case id and patient, one by one."""
    spec = liver_spec() if spec is None else spec
    plan = spec.size(size)
    for number in BTCV_IDS[: plan.healthy]:
        made = make_patient(spec, plan, derive(seed, "phantom", "btcv", number), style="btcv")
        yield "btcv", f"{number:04d}", made
    for number, index in enumerate(_tumour_bearers(plan, seed)):
        own = derive(seed, "phantom", "lits", number)
        yield "lits", str(number), make_patient(spec, plan, own, style="lits", index=index)


def _tumour_bearers(plan: SizePlan, seed: int) -> list[Index | None]:
    """Return the strata of every lesion patient's first tumour, None for the tumour-free patients."""
    rng = np.random.default_rng(derive(seed, "phantom", "tumour-free"))
    bearers: list[Index | None] = [*Index.strata(rng, plan.lesion - plan.free)]
    for place in sorted(rng.choice(plan.lesion, plan.free, replace=False).tolist()):
        bearers.insert(place, None)
    return bearers


def write_liver_phantom(root: Path, *, seed: int, size: Size | str) -> dict[str, Any]:
    """Write a phantom below ``root`` and return what ``root/phantom.json`` says.

    A pure function of specification, seed and size: the same call writes the same bytes. Files are
    ``btcv/RawData/Training/img|label`` and ``lits/Training Batch 1/volume-N.nii, segmentation-N.nii``.

    Raises:
        DataError: unknown size; ``root`` holds something else; ``root`` cannot be written.
    """
    root = Path(root)
    identity = describe(seed=seed, size=size)
    present = _present(root)
    if present is not None:
        if {key: present.get(key) for key in identity} == identity:
            return present
        raise DataError(
            f"{root / INFO} is the phantom of seed {present.get('seed')}, size {present.get('size')}, specification "
            f"{present.get('spec_hash')}; give another folder, or delete this one"
        )
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} is not empty and holds no {INFO}; give a new folder for the phantom")
    try:
        root.mkdir(parents=True, exist_ok=True)
        table = [_write(root, *item) for item in patients(seed=seed, size=size)]
        info = {**identity, "patients": table}
        (root / INFO).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"the phantom cannot be written to {root}: {error}; give a folder with free space") from error
    return info


def new_phantom(root: Path, *, seed: int, size: Size | str) -> dict[str, Any]:
    """Write a phantom into a new or empty folder, which holds the whole of it or nothing.

    Raises:
        DataError: unknown size; the folder holds something else; it cannot be written.
    """
    root = Path(root).resolve()
    if root.is_dir() and any(root.iterdir()):
        return write_liver_phantom(root, seed=seed, size=size)
    describe(seed=seed, size=size)
    try:
        with new_folder(root) as scratch:
            info = write_liver_phantom(scratch, seed=seed, size=size)
    except OSError as error:
        raise DataError(f"the phantom cannot be written to {root}: {error}; give a writable folder") from error
    return info


def phantom_of(files: Iterable[Path]) -> dict[str, Any] | None:
    """Return what identifies the phantom that any of the files belongs to, or None where all are real."""
    folders = {parent for file in files for parent in file.resolve().parents}
    found = (phantom_identity(folder) for folder in sorted(folders, reverse=True) if (folder / INFO).is_file())
    return next((identity for identity in found if identity), None)


def _present(root: Path) -> dict[str, Any] | None:
    try:
        return json.loads((root / INFO).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{root / INFO} cannot be read: {error}; delete the folder {root}") from error


def _write(root: Path, dataset: str, case: str, patient: Patient) -> dict[str, Any]:
    if dataset == "btcv":
        folder = root / "btcv" / "RawData" / "Training"
        image, label = folder / "img" / f"img{case}.nii.gz", folder / "label" / f"label{case}.nii.gz"
        mask = patient.labels
    else:
        folder = root / "lits" / "Training Batch 1"
        image, label = folder / f"volume-{case}.nii", folder / f"segmentation-{case}.nii"
        mask = (patient.labels == LABELS["liver"]).astype(np.uint8)
        mask[patient.tumour] = 2
    scanner = patient.scanner
    stored = np.rint((patient.hu - scanner.intercept) / scanner.slope).astype(np.int16)
    where = {"spacing": patient.spacing, "orientation": scanner.orientation}
    write_nifti(image, stored, **where, slope=scanner.slope, intercept=scanner.intercept)
    write_nifti(label, mask, **where)
    return {
        "set": dataset,
        "case": case,
        "spacing_mm": list(patient.spacing),
        "noise_hu": round(scanner.noise, 3),
        "orientation": scanner.orientation,
        "lesions": [lesion.to_json() for lesion in patient.lesions],
    }


def phantom_root(cache: Path, *, seed: int, size: Size | str) -> Path:
    """Return the root of a phantom below ``cache``, writing it on the first call.

    The folder's name contains the hashes of specification and generator; it appears under that name only when it is
    complete, so a killed or concurrent call never leaves or meets half a phantom.

    Raises:
        DataError: unknown size; ``cache`` cannot be written.
    """
    identity = describe(seed=seed, size=size)
    digest = f"{identity['spec_hash'][:8]}{identity['generator_hash'][:8]}"
    root = Path(cache) / f"phantom-liver-{size}-s{seed}-{digest}"
    if (root / INFO).is_file():
        return root
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_liver_phantom(temporary, seed=seed, size=size)
        if root.is_dir() and not (root / INFO).is_file():
            shutil.rmtree(root)
        temporary.rename(root)
    except OSError as error:
        if not (root / INFO).is_file():
            raise DataError(f"the phantom cannot be kept in {cache}: {error}; give a writable folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def phantom_identity(root: Path) -> dict[str, Any] | None:
    """Return what identifies the phantom in a data root, or None where the root holds real data.

    Raises:
        DataError: ``phantom.json`` is damaged.
    """
    present = _present(Path(root))
    return None if present is None else {key: value for key, value in present.items() if key != "patients"}
