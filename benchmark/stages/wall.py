"""The wall between a method and the labels: what a process that runs a method's code may still open.

Landlock keeps it where the kernel has it: nothing outside the named places can be opened, whatever code tries.
Elsewhere an audit hook refuses what Python itself opens, which stops a slip and not somebody who means it.
``UASBENCH_WALL`` asks for another wall than the best there is. docs/walls.md says what holds and what does not.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from ...common import landlock, package
from ...common.errors import UasbenchError

Isolation = Literal["landlock", "audit", "none"]
STRENGTH: tuple[Isolation, ...] = ("none", "audit", "landlock")
WALL = "UASBENCH_WALL"
REFUSED = "wall: refused to open "
"""What the audit hook prints before the path, so that an attempt can be seen where its error was swallowed."""

SECRETS = ("UASBENCH_DATA", "UASBENCH_CACHE")
"""Variables that say where data lie; a process that runs a method's code has them not even in what it began with."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc", "/nix/store", "/proc", "/sys")
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf")
"""Where /etc/resolv.conf leads to, without which no weights can be downloaded."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "nvidia*", "nvidia-caps", "dri", "kfd", "dxg")
MPS = Path("/tmp/nvidia-mps")  # noqa: S108
"""Where CUDA looks for its multi-process service, unless ``CUDA_MPS_PIPE_DIRECTORY`` names another folder."""
COMPILERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}
"""Variables that say where compilers keep what they have made, and its place in a folder of such code."""
_MODULES = frozenset({".py", ".so", ".pyd", ".zip", ".egg-link", ".pth", ".dist-info", ".egg-info"})
_OPENING = frozenset({"open", "os.listdir", "os.scandir", "os.truncate"})
_CHANGING = frozenset(
    {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "sqlite3.connect"}
)
_CHANGING_TWO = frozenset({"os.rename", "os.link", "os.symlink"})

_standing: Isolation = "none"


class WallError(UasbenchError):
    """The wall that was asked for cannot be raised here."""


@dataclass(frozen=True)
class Places:
    """What a stage may read besides the interpreter, its packages, weights and devices, and where it may write.

    ``target`` is the method's ``module:Class``; ``kernels`` a folder for code compiled for methods of this package.
    """

    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    target: str = ""
    kernels: Path | None = None


def standing() -> Isolation:
    """Return which wall stands around this process."""
    return _standing


def available() -> Isolation:
    """Return the wall that a stage gets here: that of ``UASBENCH_WALL``, else the best there is.

    Raises:
        WallError: that is none of them, or the kernel has no Landlock.
    """
    wanted = os.environ.get(WALL) or ("landlock" if landlock.abi() else "audit")
    if wanted == "landlock" and not landlock.abi():
        raise WallError(f"{WALL}=landlock: this kernel has no Landlock (Linux 5.13 or later has); unset it")
    for kind in STRENGTH:
        if kind == wanted:
            return kind
    raise WallError(f"{WALL}={wanted}: choose {', '.join(STRENGTH)}")


def raise_wall(places: Places) -> Isolation:
    """Keep this process, and all that it starts, to ``places``; nothing takes it down again.

    Raises:
        WallError: as :func:`available`.
        OSError: the kernel refuses.
    """
    global _standing
    kind = available()
    reads = [*_interpreter(), *_weights(), *_package_of(places.target), *places.reads]
    writes = [*_devices(), *_hubs(), *places.writes]
    if places.kernels is not None and places.target.startswith(f"{package.NAME}."):
        writes += _compiled_in(places.kernels)
    lists = [Path(p) for p in sys.path if Path(p).is_dir()] + [package.ROOT]
    if kind == "landlock":
        landlock.restrict(reads, writes, lists)
    elif kind == "audit":
        sys.addaudithook(_hook(reads, writes, lists))
    _standing = kind
    return kind


def exposed(folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """Return the first folder that no wall hides, with the place around it that every method may read; or None.

    Raises:
        WallError: as :func:`available`.
    """
    if available() == "none":
        return None
    shared = [Path(os.path.realpath(place)) for place in (*_interpreter(), *_weights(), *_hub_caches(), *_devices())]
    for folder in folders:
        real = Path(os.path.realpath(folder))
        for place in shared:
            if real.is_relative_to(place):
                return folder, place
    return None


def weakest(walls: Iterable[str]) -> Isolation:
    """Return the weakest of several walls, ``none`` where there is none."""
    found = set(walls)
    for kind in STRENGTH:
        if kind in found:
            return kind
    return "none"


def _interpreter() -> Iterator[Path]:
    """Yield what running Python needs: the system's programs and libraries, the environment, and packages on the path.

    Of a folder on the path that is no installation, such as that of a script or a checkout, only packages and modules
    count: data and runs may lie in it as well.
    """
    yield from map(Path, (*_SYSTEM, *_RESOLVERS))
    libraries = (os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "CUDA_HOME"))
    yield from (Path(p) for p in os.pathsep.join(libraries).split(os.pathsep) if p)
    home = Path.home()
    for name in (sys.prefix, sys.base_prefix, sys.exec_prefix, sysconfig.get_paths()["stdlib"]):
        path = Path(name)
        if path != home and path not in home.parents:
            yield path
    for name in dict.fromkeys([*sys.path, str(package.ROOT)]):
        path = Path(name or ".").absolute()
        if path.is_file() or next(path.glob("*.dist-info"), None) is not None:
            yield path
        elif path.is_dir():
            yield from _modules_in(path)
    for module in [m for n, m in sys.modules.items() if n.startswith("__editable__")]:
        yield from (Path(place) for place in getattr(module, "MAPPING", {}).values() if Path(place) != package.ROOT)


def _modules_in(folder: Path) -> Iterator[Path]:
    try:
        children = list(folder.iterdir())
    except OSError:
        return
    for child in children:
        known = child.suffix in _MODULES or child.name == "__pycache__"
        if known or (child / "__init__.py").is_file():
            yield child


def _package_of(target: str) -> Iterator[Path]:
    """Yield the files of the package that a method comes from, wherever it lies."""
    top = target.partition(":")[0].partition(".")[0]
    spec = find_spec(top) if top and top != package.NAME else None
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or ([spec.origin] if spec.origin else []))


def _weights() -> Iterator[Path]:
    if named := os.environ.get("UASBENCH_WEIGHTS"):
        yield Path(named).expanduser()


def _hub_caches() -> Iterator[Path]:
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    named = [os.environ.get("HF_HOME", caches / "huggingface"), os.environ.get("TORCH_HOME", caches / "torch")]
    named += [os.environ["HF_HUB_CACHE"]] if "HF_HUB_CACHE" in os.environ else []
    yield from (Path(name).expanduser() for name in named)


def _hubs() -> Iterator[Path]:
    """Yield the caches of the model hubs, made where they are missing: a method may download weights there."""
    for folder in _hub_caches():
        with suppress(OSError):  # a home that cannot be written, where nothing could be downloaded before either
            folder.mkdir(parents=True, exist_ok=True)
        yield folder


def _devices() -> Iterator[Path]:
    for pattern in _DEVICES:
        yield from Path("/dev").glob(pattern)
    if named := os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        yield Path(named)
    elif MPS.is_dir() and not MPS.is_symlink():  # anybody may have made it, and a link could lead to the labels
        yield MPS


def _compiled_in(folder: Path) -> list[Path]:
    """Have what compiles code keep it in ``folder``: that beside the modules cannot be written from behind the wall."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if (numba := sys.modules.get("numba")) is not None:
        numba.config.CACHE_DIR = str(folder)
    os.environ |= {name: str(folder / part) for name, part in COMPILERS.items()}
    return [folder]


def _hook(reads: Iterable[Path], writes: Iterable[Path], lists: Iterable[Path]) -> Any:
    """Return an audit hook that refuses what Python opens or changes outside the places."""
    real = os.path.realpath
    writable = tuple({real(path) for path in writes})
    readable = (*writable, *{real(path) for path in reads})
    listable = (*readable, *{real(path) for path in lists})

    def below(path: Any, places: tuple[str, ...]) -> bool:
        if isinstance(path, int) or path is None:
            return True  # what is open already
        text = os.fsdecode(path)
        if text.startswith("file:") or (not text.startswith(os.sep) and os.pardir in Path(text).parts):
            return False  # SQLite would read the one as an address; the other may start at an open folder
        name = real(text)
        return any(name == place or name.startswith(f"{place}{os.sep}") for place in places)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _OPENING:
            changes = event == "os.truncate" or (event == "open" and _writes(arguments[2]))
            allowed = writable if changes else readable if event == "open" else listable
            paths = arguments[:1]
        elif event in _CHANGING:
            allowed, paths = writable, arguments[:1]
        elif event in _CHANGING_TWO:
            allowed, paths = writable, arguments[:2]
        else:
            return
        for path in paths:
            if not below(path, allowed):
                os.write(2, f"{REFUSED}{os.path.realpath(os.fsdecode(path))}\n".encode())
                raise PermissionError(13, "not among the places that a method may open", os.fsdecode(path))

    return hook


def _writes(flags: Any) -> bool:
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
