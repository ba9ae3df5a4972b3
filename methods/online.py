"""Whether ``skip`` may ask the network: before a run it may, in a listing it looks at this machine alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_allowed = ContextVar("uasbench_network", default=True)


def allowed() -> bool:
    """Return whether a method may ask the network."""
    return _allowed.get()


@contextmanager
def forbidden() -> Iterator[None]:
    """Forbid it for a while."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)
