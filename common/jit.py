"""Compiled kernels: numba is imported at the first call; compiled code comes from a disk cache if there is one."""

from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType
from typing import Any


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that numba compiles when it is first called.

    Compiled code is cached beside the module, or in numba's user cache (``NUMBA_CACHE_DIR``) where the package folder
    cannot be written; where neither can, the kernel is compiled once per process. A kernel calls no other kernel,
    but functions of its module that are marked :func:`inlined`.
    """

    @cache
    def compiled() -> Callable[..., Any]:
        import numba

        made: Any = function
        helpers = {n: numba.njit(h) for n, h in made.__globals__.items() if getattr(h, "inlined", False)}
        if helpers:  # numba looks names up in the globals of the function that it compiles
            made = FunctionType(made.__code__, made.__globals__ | helpers, made.__name__)
            made.__module__, made.__qualname__ = function.__module__, function.__qualname__
        try:
            return numba.njit(made, cache=True, nogil=True)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            return numba.njit(made, nogil=True)

    @wraps(function)
    def call(*args: Any) -> Any:
        return compiled()(*args)

    return call


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a small function that kernels of the same module call; it is compiled into each of them."""
    function.inlined = True  # pyright: ignore[reportFunctionMemberAccess]
    return function
