"""JSON files and folders that carry digests of what was written, so that what is read can be compared with it.

A sealed file starts with the ``digest`` of the text that follows; in files of earlier versions it is that of the
values, dumped with sorted keys, which takes a third of reading a record. The seal of a folder is such a file that
lists, under ``files``, size and digest of what lies beside it. A digest is a CRC-32, as :func:`zlib.crc32` computes it:
it finds what a disk, a copy, an edit or a careless program does to a file and costs next to nothing; who means to
deceive can write it anew.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .atomic import discard, write_file
from .errors import DataError, brief
from .json_files import parsed

UNSEALED = "it has no digests"
_HEAD = re.compile(rb'\{"digest": "text:([0-9a-f]{8})"')
_CHUNK = 2**20


class DamagedError(DataError):
    """A file is gone, or is not what was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path} is missing or damaged ({self.why}); run the same command again, which makes it anew"


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them, with their ``digest`` instead of the one that they may have already."""
    rest = json.loads(json.dumps({key: value for key, value in content.items() if key != "digest"}))
    return {**rest, "digest": _digest(rest)}


def _digest(content: dict[str, Any]) -> str:
    """Return the digest of what was read from JSON, but for the one in it."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return _crc(json.dumps(rest, sort_keys=True).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a sealed file; one of an earlier version has neither ``digest`` nor ``files``, and is read as it is.

    Raises:
        DamagedError: the file is missing, is not JSON of this kind, or has another digest.
    """
    try:
        text = path.read_bytes()
        content = parsed(text)
    except (OSError, ValueError) as error:
        raise DamagedError(path, brief(error)) from error
    if not isinstance(content, dict):
        raise DamagedError(path, f"it holds {type(content).__name__}")
    if is_sealed(content) and not is_whole(text) and _digest(content) != content.get("digest"):
        raise DamagedError(path, "its digest differs")
    return content


def is_whole(text: bytes) -> bool:
    """Whether a text starts with the digest of what follows."""
    head = _HEAD.match(text)
    return head is not None and _crc(memoryview(text)[head.end() :]) == head[1].decode()


def with_digest(text: str) -> bytes:
    """Return the text of a JSON object that has no ``digest`` with that of its text at the start."""
    rest = text[1:].encode()
    rest = rest if rest.lstrip().startswith(b"}") else b"," + rest
    return b'{"digest": "text:%s"%s' % (_crc(rest).encode(), rest)


def is_sealed(content: dict[str, Any]) -> bool:
    """Whether what was read from a file has a digest; what an earlier version wrote has none."""
    return content.get("digest") is not None or "files" in content


def write_sealed(path: Path, content: dict[str, Any], indent: int | None = 1) -> None:
    """Write a sealed file atomically; without ``indent`` in one line, in a fraction of the time.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    rest = {key: value for key, value in content.items() if key != "digest"}
    write_file(path, with_digest(json.dumps(rest, indent=indent, sort_keys=True) + "\n"))


def seal_folder(path: Path, about: dict[str, Any], but: Iterable[str] = ()) -> None:
    """Write the seal of the folder of ``path``: ``about`` and all files there, ``but`` those that may change later."""
    lying = (file for file in sorted(path.parent.rglob("*")) if file.is_file() and file.name not in {path.name, *but})
    write_sealed(path, {**about, "files": {str(file.relative_to(path.parent)): _file(file) for file in lying}})


def check_files(path: Path, *names: str) -> dict[str, Any]:
    """Read the seal of a folder and compare the files ``names``, by default all that it lists; return the seal.

    Raises:
        DamagedError: the seal, or the first of the files that is missing or not what was written.
    """
    about = read_sealed(path)
    for name in names or about.get("files", ()):
        file = path.parent / name
        try:
            found = _file(file)
        except OSError as error:
            raise DamagedError(file, error.strerror or brief(error)) from error
        size, digest = about["files"].get(name, (0, "")) if "files" in about else found
        if [size, digest] != found:
            raise DamagedError(file, f"{found[0]} bytes, expected {size}" if size != found[0] else "its digest differs")
    return about


def damage(path: Path, *, seal_alone: bool = False) -> DamagedError | None:
    """Return what is wrong with the folder of a seal, None where it is whole; one without digests is not."""
    try:
        about = read_sealed(path) if seal_alone else check_files(path)
    except DamagedError as error:
        return error
    return None if is_sealed(about) else DamagedError(path, UNSEALED)


def discard_damaged(seals: Iterable[Path]) -> list[DamagedError]:
    """Take away the folders that are there and damaged, so that they are made again; return what was wrong.

    Raises:
        DiskError: a folder cannot be taken away.
    """
    found = {path.parent: error for path in seals if path.parent.exists() and (error := damage(path)) is not None}
    for folder in found:
        discard(folder)
    return list(found.values())


def _file(path: Path) -> list[Any]:
    from isal import isal_zlib

    size, value = 0, 0
    with path.open("rb", buffering=0) as file:
        chunk = memoryview(bytearray(min(_CHUNK, os.fstat(file.fileno()).st_size + 1)))
        while count := file.readinto(chunk):
            size, value = size + count, isal_zlib.crc32(chunk[:count], value)
    return [size, _hex(value)]


def _crc(text: bytes | memoryview) -> str:
    from isal import isal_zlib

    return _hex(isal_zlib.crc32(text))


def _hex(value: int) -> str:
    return f"{value:08x}"
