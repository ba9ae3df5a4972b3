"""A few elements of a DICOM header, read byte by byte, so that a set can be listed without a library that reads scans.

Little endian, implicit or explicit (PS3.5, chapter 7); what follows the SeriesInstanceUID is not looked at.
"""

import struct
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from ...common.errors import DataError

SERIES = (0x0020, 0x000E)
_INSTANCE, _MODALITY, _DESCRIPTION, _PATIENT = (0x0008, 0x0018), (0x0008, 0x0060), (0x0008, 0x103E), (0x0010, 0x0020)
_REFERENCED = (0x0008, 0x1115)
_SYNTAX = (0x0002, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_IMPLICIT, _OTHER = "1.2.840.10008.1.2", {"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF
_LONGEST, _DEEPEST = 4096, 16

Tag = tuple[int, int]


@dataclass(frozen=True)
class DicomTags:
    """What a file says of itself; ``referenced`` is the first series that it refers to, such as that of a mask's CT."""

    modality: str = ""
    patient: str = ""
    series: str = ""
    instance: str = ""
    description: str = ""
    referenced: str = ""


def read_tags(path: Path) -> DicomTags | None:
    """Read modality, PatientID, uids and description of a file; None of one that carries no mark of DICOM.

    Raises:
        DataError: the file cannot be opened, its header ends early, or its bytes are swapped or deflated.
    """
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
            found = _walk(file, explicit=True, last=_SYNTAX, wanted={_SYNTAX})
            syntax = found.get(_SYNTAX, "")
            if syntax in _OTHER:
                raise DataError(f"{path}: transfer syntax {syntax} is not read here; store the file as little endian")
            wanted = {_INSTANCE, _MODALITY, _DESCRIPTION, _PATIENT, SERIES}
            file.seek(_after_meta(file))
            found = _walk(file, explicit=syntax != _IMPLICIT, last=SERIES, wanted=wanted)
    except (struct.error, EOFError) as error:
        raise DataError(f"{path}: no readable DICOM header; copy or download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file and its rights") from error
    names = ("modality", "patient", "series", "instance", "description", "referenced")
    tags = (_MODALITY, _PATIENT, SERIES, _INSTANCE, _DESCRIPTION, _REFERENCED)
    return DicomTags(**{name: found.get(tag, "") for name, tag in zip(names, tags, strict=True)})


def _after_meta(file: BufferedReader) -> int:
    """Return where the elements after the meta information, which is always explicit, begin."""
    file.seek(132)
    while True:
        here = file.tell()
        tag, vr, length = _element(file, True)
        if tag[0] != 0x0002:
            return here
        _skip(file, True, vr, length)


def _walk(file: BufferedReader, *, explicit: bool, last: Tag, wanted: set[Tag]) -> dict[Tag, str]:
    """Return the texts of the ``wanted`` elements up to the one called ``last``, and the series that is referred to."""
    found: dict[Tag, str] = {}
    while True:
        try:
            tag, vr, length = _element(file, explicit)
        except EOFError:
            if found:  # the file ends after its header, such as one without voxels
                return found
            raise
        if tag > last:
            return found
        if tag == _REFERENCED:
            found[tag] = _referenced(file, explicit, length)
        elif tag in wanted and length <= _LONGEST:
            found[tag] = _text(file, length)
        else:
            _skip(file, explicit, vr, length)


def _referenced(file: BufferedReader, explicit: bool, length: int) -> str:
    """Return the SeriesInstanceUID of the first item of a sequence, and go to its end."""
    start, uid = file.tell(), ""
    tag, _, item = _element(file, explicit)
    if tag == _ITEM:
        begin = file.tell()
        while item == _UNDEFINED or file.tell() < begin + item:
            tag, vr, size = _element(file, explicit)
            if tag == _ITEM_END:
                break
            if tag == SERIES and size <= _LONGEST:
                uid = _text(file, size)
            else:
                _skip(file, explicit, vr, size)
    file.seek(start)
    _skip(file, explicit, b"SQ", length)
    return uid


def _element(file: BufferedReader, explicit: bool) -> tuple[Tag, bytes, int]:
    """Return tag, kind and length of the element that begins here; its value follows."""
    head = _bytes(file, 8)
    group, element = struct.unpack("<HH", head[:4])
    if group == 0xFFFE or not explicit:
        return (group, element), b"", struct.unpack("<I", head[4:])[0]
    vr = head[4:6]
    if vr in _LONG:
        return (group, element), vr, struct.unpack("<I", _bytes(file, 4))[0]
    return (group, element), vr, struct.unpack("<H", head[6:])[0]


def _skip(file: BufferedReader, explicit: bool, vr: bytes, length: int, depth: int = 0) -> None:
    """Go past a value; one of undefined length is a sequence, which ends with a mark of its own."""
    if length != _UNDEFINED:
        file.seek(length, 1)
        return
    if depth > _DEEPEST:
        raise EOFError
    explicit = explicit and vr != b"UN"
    while True:
        tag, _, item = _element(file, explicit)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise EOFError
        if item != _UNDEFINED:
            file.seek(item, 1)
            continue
        while (inner := _element(file, explicit))[0] != _ITEM_END:
            _skip(file, explicit, inner[1], inner[2], depth + 1)


def _text(file: BufferedReader, length: int) -> str:
    return _bytes(file, length).decode("latin-1").strip(" \0")


def _bytes(file: BufferedReader, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise EOFError
    return found
