"""Compiled kernels: numba is imported at the first call; compiled code comes from a disk cache if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Kernel:
    """A function that numba compiles when it is first called.

    Compiled code is cached beside the module, or in numba's user cache (``NUMBA_CACHE_DIR``) where the package folder
    cannot be written; where neither can, the kernel is compiled once per process. A kernel calls no other kernel.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._compiled: Callable[..., Any] | None = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        """Run the compiled function."""
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled(*args)

    def _compile(self) -> Callable[..., Any]:
        import numba

        try:
            return numba.njit(self.function, cache=True, nogil=True)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            return numba.njit(self.function, nogil=True)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Mark a function as a numba kernel (see :class:`Kernel`)."""
    return Kernel(function)
