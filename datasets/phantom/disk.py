"""Phantoms on disk: whole or not at all, described by ``phantom.json``, cached under the hashes of what made them.

The entry of an anatomy names the module that makes its scans, with ``specification()`` and ``write_patients()``.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from ...common.atomic import new_folder
from ...common.errors import DataError
from ...common.json_files import read_json
from ..anatomy import anatomy_names, find_anatomy
from .spec import Spec, generator_digest

Size = Literal["smoke", "quick", "standard", "full"]
INFO = "phantom.json"


class Maker(Protocol):
    """What the module of an anatomy offers."""

    def specification(self) -> Spec:
        """Return the specification."""
        ...

    def write_patients(self, root: Path, *, seed: int, size: str) -> Iterator[dict[str, Any]]:
        """Write the files of a phantom below ``root``, one patient at a time, and yield a row on each."""
        ...


def maker(anatomy: str) -> Maker:
    """Return the module that makes the phantom of an anatomy."""
    return cast(Maker, import_module(_module(anatomy)))


def _module(anatomy: str) -> str:
    module = find_anatomy(anatomy).phantom
    if module is None:
        made = ", ".join(name for name in anatomy_names() if find_anatomy(name).phantom)
        raise DataError(f"there is no phantom of {anatomy!r}; use one of {made}, or --data-root")
    return module


def describe(*, anatomy: str, seed: int, size: str) -> dict[str, Any]:
    """Return what identifies a phantom: name, version, hash of the specification, hash of the generator, seed, size."""
    spec = maker(anatomy).specification()
    spec.size(size)
    return {
        "name": spec.values["name"],
        "version": spec.version,
        "spec_hash": spec.digest,
        "generator_hash": generator_digest(_module(anatomy)),
        "seed": int(seed),
        "size": size,
    }


def write_phantom(root: Path, *, anatomy: str, seed: int, size: Size | str) -> dict[str, Any]:
    """Write a phantom to a new or empty folder, whole or not at all, and return what its ``phantom.json`` says.

    A pure function of specification, seed and size: the same call writes the same bytes; a second one writes nothing.

    Raises:
        DataError: unknown anatomy or size; ``root`` holds something else; ``root`` cannot be written.
    """
    root = Path(root).resolve()
    identity = describe(anatomy=anatomy, seed=seed, size=size)
    present = _present(root)
    if present is not None:
        if {key: present.get(key) for key in identity} == identity:
            return present
        raise DataError(
            f"{root / INFO} is the {present.get('name')} phantom of seed {present.get('seed')}, size "
            f"{present.get('size')}, specification {present.get('spec_hash')}; give another folder, or delete this one"
        )
    if root.is_dir() and any(root.iterdir()):
        raise DataError(f"{root} is not empty and holds no {INFO}; give a new folder for the phantom")
    try:
        with new_folder(root) as scratch:
            table = list(maker(anatomy).write_patients(scratch, seed=seed, size=size))
            info = {**identity, "patients": table}
            (scratch / INFO).write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"the phantom cannot be written to {root}: {error}; give a writable folder") from error
    return info


def phantom_root(cache: Path, *, anatomy: str, seed: int, size: Size | str) -> Path:
    """Return the root of a phantom below ``cache``, writing it on the first call.

    The folder's name contains the hashes of specification and generator; it appears under that name only when it is
    complete, so a killed or concurrent call never leaves or meets half a phantom.
    """
    identity = describe(anatomy=anatomy, seed=seed, size=size)
    digest = f"{identity['spec_hash'][:8]}{identity['generator_hash'][:8]}"
    root = Path(cache) / f"phantom-{anatomy}-{size}-s{seed}-{digest}"
    if (root / INFO).is_file():
        return root
    if root.is_dir():
        shutil.rmtree(root)
    write_phantom(root, anatomy=anatomy, seed=seed, size=size)
    return root


def phantom_identity(root: Path) -> dict[str, Any] | None:
    """Return what identifies the phantom in a data root, or None where the root holds real data."""
    present = _present(Path(root))
    return None if present is None else {key: value for key, value in present.items() if key != "patients"}


def phantom_of(files: Iterable[Path]) -> dict[str, Any] | None:
    """Return what identifies the phantom that any of the files belongs to, or None where all are real."""
    folders = {parent for file in files for parent in file.resolve().parents}
    found = (phantom_identity(folder) for folder in sorted(folders, reverse=True) if (folder / INFO).is_file())
    return next((identity for identity in found if identity), None)


def _present(root: Path) -> dict[str, Any] | None:
    try:
        return read_json(root / INFO)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{root / INFO} cannot be read: {error}; delete the folder {root}") from error
