"""Landlock: a process of Linux gives up, for itself and all that it starts, every file but those that it names.

Straight system calls (Linux 5.13 and later, docs.kernel.org/userspace-api/landlock.html); no privilege is needed, and
nothing can take the restriction back. It holds for the thread that asks for it and for what that thread starts later.
"""

import ctypes
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH, _SET_NO_NEW_PRIVS = 1, 1, 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_SCOPE_SIGNAL = 1 << 1
_READING = _EXECUTE | _READ_FILE | _READ_DIR


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


@cache
def abi() -> int:
    """Return the version of Landlock that the kernel offers, 0 where it has none."""
    if not hasattr(os, "O_PATH"):
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG)))


def restrict(reads: Iterable[Path], writes: Iterable[Path], lists: Iterable[Path] = ()) -> None:
    """Keep this process to reading and running what lies below ``reads``, and to doing anything below ``writes``.

    Below ``lists`` the names in folders can be read and nothing else. A path that is not there is left out. From
    version 6 on signals reach only processes that are restricted with it. What is open stays open; names, sizes and
    dates of files (``stat``) are not hidden, nor are sockets.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    version = abi()
    handled = (1 << 13) - 1
    handled |= (1 << 13 if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    ruleset = _Ruleset(handled, 0, _SCOPE_SIGNAL if version >= 6 else 0)
    size = 24 if version >= 6 else 8
    libc = ctypes.CDLL(None, use_errno=True)
    rules = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for paths, access in ((reads, _READING), (writes, handled), (lists, _READ_DIR)):
            for path in paths:
                _allow(libc, rules, path, access & handled)
        _checked(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)))
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(access if path.is_dir() else access & _OF_FILES, descriptor)
        if rule.access:
            _checked(libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
