"""``bench doctor``: what is installed here, and what would stand in the way of a run."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from ...common import landlock, package
from ..catalogue import registry
from ..environment import versions
from ..locations import cache_root
from ..stages import wall

Status = Literal["ok", "note", "problem"]
Finding = tuple[str, Status, str]
LOW_DISK_GIB = 5.0


def diagnose() -> list[Finding]:
    """Return findings: topic, ``ok`` | ``note`` | ``problem``, detail. A topic that cannot be read is a problem."""
    findings: list[Finding] = []
    for topic, look in _TOPICS.items():
        try:
            findings.extend((topic, status, detail) for status, detail in look())
        except Exception as error:
            findings.append((topic, "problem", f"cannot be determined: {type(error).__name__}: {error}"))
    return findings


def _python() -> Iterator[tuple[Status, str]]:
    yield "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}"


def _packages() -> Iterator[tuple[Status, str]]:
    installed = versions()
    missing = [name for name, number in installed.items() if number == "not installed"]
    yield "ok", ", ".join(f"{name} {number}" for name, number in installed.items() if name not in missing)
    if missing:
        yield "problem", f"not installed: {', '.join(missing)}; run 'pip install -e .' in the repository"


def _devices() -> Iterator[tuple[Status, str]]:
    import torch

    if not torch.cuda.is_available():
        yield "note", f"no CUDA device; torch {torch.__version__} runs on the CPU"
        return
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        size = f"{properties.total_memory / 2**30:.0f} GiB"
        yield "ok", f"cuda:{i} {properties.name}, {size}, CUDA {torch.version.cuda}, {bf16}"


def _processor() -> Iterator[tuple[Status, str]]:
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = {k: os.environ[k] for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if k in os.environ}
    limits = "".join(f", {k}={v}" for k, v in threads.items())
    memory = psutil.virtual_memory()
    free = f"memory {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    yield "ok", f"{usable} usable cores{limits}; {free}"


def _isolation() -> Iterator[tuple[Status, str]]:
    kind = wall.available()
    if kind == "landlock":
        yield "ok", f"methods are kept from the labels by the kernel (Landlock, version {landlock.abi()})"
    else:
        why = (
            f"{wall.WALL} asks for it"
            if os.environ.get(wall.WALL)
            else "this kernel has no Landlock (5.13 or later has)"
        )
        yield "note", f"methods are kept from the labels by {'an audit hook' if kind == 'audit' else 'nothing'}: {why}"


def _plugins() -> Iterator[tuple[Status, str]]:
    for group in (registry.methods(), registry.datasets(), registry.toplines(), registry.executors()):
        names = group.names()
        if names:
            yield "ok", f"{group.kind}s: {', '.join(f'{n}{_origin(group, n)}' for n in names)}"
        for reason in group.broken().values():
            yield "problem", reason


def _origin(group: registry.Registry, name: str) -> str:
    try:
        entry = group.entry(name)
    except registry.RegistryError:
        return " (claimed twice)"
    return "" if entry.built_in else f" ({entry.distribution} {entry.version})"


def _installed() -> Iterator[tuple[Status, str]]:
    """Entry points are written at installation: a repository that has moved on needs another one."""
    project = package.ROOT / "pyproject.toml"
    if not project.is_file():
        yield "ok", "installed as a package"
        return
    import tomllib

    wanted = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]
    stale = []
    for group in (registry.methods(), registry.datasets(), registry.executors()):
        declared = wanted.get(group.group, {})
        here = {n: group.entry(n).target for n in group.names() if _origin(group, n) == ""}
        stale += sorted(n for n in declared.keys() | here.keys() if declared.get(n) != here.get(n))
    if stale:
        yield "problem", f"the installation is older than {project}: {', '.join(stale)}; run 'pip install -e .' there"
    else:
        yield "ok", f"entry points agree with {project}"


def _cache() -> Iterator[tuple[Status, str]]:
    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield "problem", f"{folder} cannot be written ({error.strerror}); set UASBENCH_CACHE to a folder that can"
        return
    yield from _space(folder, f"{folder} can be written")


def _space(folder: Path, text: str) -> Iterator[tuple[Status, str]]:
    free = shutil.disk_usage(folder).free / 2**30
    yield ("ok" if free >= LOW_DISK_GIB else "problem"), f"{text}, {free:.0f} GiB free"


def _data() -> Iterator[tuple[Status, str]]:
    root = os.environ.get("UASBENCH_DATA")
    if not root:
        yield "note", "UASBENCH_DATA is not set: give --data-root, or try --phantom, which needs no data"
    elif not Path(root).is_dir():
        yield "problem", f"UASBENCH_DATA={root} is not a folder; set it to the folder that holds the data sets"
    else:
        yield "ok", f"UASBENCH_DATA={root}"


_TOPICS: dict[str, Callable[[], Iterator[tuple[Status, str]]]] = {
    "python": _python,
    "packages": _packages,
    "installation": _installed,
    "devices": _devices,
    "processor": _processor,
    "isolation": _isolation,
    "plug-ins": _plugins,
    "cache": _cache,
    "disk": lambda: _space(Path.cwd(), f"working folder {Path.cwd()}"),
    "data": _data,
}
