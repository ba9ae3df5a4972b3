"""A method that looks for the labels on every known way, for ``bench check``: none of them may lead anywhere."""

import ctypes
import gc
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...datasets.case import Case
from ...datasets.healthy import HealthySet
from ...datasets.storing.prepared import PreparedCase
from ...methods.card import MethodCard
from ...methods.config import Config
from ...methods.context import FitContext
from ...methods.method import Method

FAR = 6


def environment(_: str) -> Iterator[bytes]:
    """Look where the environment points to, as it is and as this process started with it."""
    started = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
    for value in [*os.environ.values(), *(text.partition("=")[2] for text in started)]:
        yield from _near(value)


def descriptors(_: str) -> Iterator[bytes]:
    """Look around the files that are open."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            yield from _near(descriptor.readlink())
        except OSError:
            continue


def frames(_: str) -> Iterator[bytes]:
    """Look around the paths that callers hold."""
    frame: Any = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            yield from _near(getattr(value, "path", value))
        frame = frame.f_back


def objects(_: str) -> Iterator[bytes]:
    """Look around the cases and paths that the garbage collector knows."""
    for thing in gc.get_objects():
        if type(thing) is PreparedCase:
            yield from _near(thing.path)


def working_folder(_: str) -> Iterator[bytes]:
    """Look around the folder that the process works in, and that of its parents."""
    for process in ("self", str(os.getppid())):
        yield from _near(os.path.realpath(f"/proc/{process}/cwd"))


def opened(path: str) -> Iterator[bytes]:
    """Open the path of a label as Python does."""
    yield Path(path).read_bytes()


def through_proc(path: str) -> Iterator[bytes]:
    """Open it through the root folder of this process."""
    yield Path(f"/proc/self/root{path}").read_bytes()


def linked(path: str) -> Iterator[bytes]:
    """Make a link to it and open that."""
    Path("link").symlink_to(path)
    yield Path("link").read_bytes()


def by_a_child(path: str) -> Iterator[bytes]:
    """Have another program read it."""
    yield subprocess.run(["cat", path], capture_output=True, check=True).stdout  # noqa: S603, S607


def compiled(path: str) -> Iterator[bytes]:
    """Read it with the C library, of which Python knows nothing."""
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(2**20)
    length = libc.read(libc.open(path.encode(), os.O_RDONLY), buffer, len(buffer))
    yield buffer.raw[: max(0, length)]


def past_an_open_folder(path: str) -> Iterator[bytes]:
    """Open it from a folder that may be read, while the working one makes the path look harmless."""
    Path("within").mkdir(exist_ok=True)
    os.chdir("within")
    try:
        folder = os.open("/usr", os.O_RDONLY)
        with os.fdopen(os.open(f"..{path}", os.O_RDONLY, dir_fd=folder), "rb") as file:
            yield file.read()
    finally:
        os.chdir("..")


def overwritten(_: str) -> Iterator[bytes]:
    """Write into a mapped file of the store, whose name the kernel tells."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("image.npy"):
            path = line.split(maxsplit=5)[5]
            np.load(path, mmap_mode="r+").flat[0] += 1
            yield b"\xff" * 2**20


ROUTES: dict[str, Callable[[str], Iterator[bytes]]] = {
    way.__name__.replace("_", " "): way
    for way in (
        environment,
        descriptors,
        frames,
        objects,
        working_folder,
        opened,
        through_proc,
        linked,
        past_an_open_folder,
        overwritten,
        by_a_child,
        compiled,
    )
}
PAST_PYTHON = frozenset({"by a child", "compiled"})
"""Ways on which an audit hook has no say."""


@dataclass(frozen=True)
class ThiefConfig(Config):
    """The path of a label, behind a bar: a plain path in a setting is one that the user wants read."""

    label: str = ""


class Thief(Method):
    """Marks what it can read of the labels: a voxel has bit ``i`` where the route ``i`` of :data:`ROUTES` led to it."""

    card: ClassVar = MethodCard(name="thief", title="Reads the labels", deterministic=True)
    Config = ThiefConfig
    config: ThiefConfig

    def fit(self, healthy: HealthySet, ctx: FitContext) -> None:
        """Learn nothing."""

    def score(self, case: Case) -> np.ndarray:
        """Return what was found, float32 (z, y, x)."""
        found = np.zeros(case.image.size, np.int64)
        packed = math.ceil(case.image.size / 8)
        for number, route in enumerate(ROUTES.values()):
            try:
                for stolen in route(self.config.label.removeprefix("|")):
                    bits = np.unpackbits(np.frombuffer(stolen, np.uint8)[-packed:])
                    found[: len(bits)] |= bits[: len(found)].astype(np.int64) << number
            except (OSError, subprocess.SubprocessError) as error:
                print(f"turned away: {error}")
        return found.reshape(case.image.shape).astype(np.float32)


def _near(place: Any) -> Iterator[bytes]:
    """Yield the masks in the stores around a path, up to some folders above it."""
    if not isinstance(place, str | Path) or not Path(place).is_absolute():
        return
    for folder in [Path(place), *Path(place).parents[:FAR]]:
        for below in ("truth", "*/truth", "*/*/truth"):
            try:
                for mask in folder.glob(f"{below}/*/lesion.npy"):
                    yield mask.read_bytes()
            except OSError as error:
                print(f"turned away: {error}")
