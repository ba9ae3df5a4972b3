"""The next batch is drawn while the present one is learned from: synthesis on the host, or on the GPU beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from ..common.untried import untried
from .context import FitContext

T = TypeVar("T")
BATCHES = 2


@contextmanager
def drawn_ahead(draw: Callable[[], T], ctx: FitContext, threaded: bool | None = None) -> Iterator[Callable[[], T]]:
    """Give what yields the batches of ``draw``, the same in the same order, drawn by a thread on a GPU.

    ``draw`` uses generators of its own, and its batches hold tensors in tuples, lists or dictionaries. ``threaded``
    overrides the choice by device.
    """
    if not (untried(ctx.device) if threaded is None else threaded):
        yield draw
        return
    with ThreadPoolExecutor(1) as pool:
        following = ctx.keep(_Ahead(draw, ctx.device, pool))
        try:
            yield following
        finally:
            pool.shutdown(cancel_futures=True)
            following.forget()


class _Ahead:
    def __init__(self, draw: Callable[[], Any], device: str, pool: ThreadPoolExecutor) -> None:
        self.draw, self.device, self.pool = draw, device, pool
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None
        self._pending: deque[Future[tuple[Any, Any]]] = deque()

    def __call__(self) -> Any:
        while len(self._pending) < BATCHES:
            self._pending.append(self.pool.submit(self._drawn))
        batch, event = self._pending.popleft().result()
        self._pending.append(self.pool.submit(self._drawn))
        if event is not None:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(event)
            for tensor in tensors(batch):
                tensor.record_stream(here)  # its memory is not given away while this stream still reads it
        return batch

    def _drawn(self) -> tuple[Any, Any]:
        if self._stream is None:
            return self.draw(), None
        with torch.cuda.stream(self._stream):
            return self.draw(), self._stream.record_event()

    def forget(self) -> None:
        """Drop what nobody will take, so that checkpoints of a later phase hold none of it."""
        self._pending.clear()

    def settle(self) -> None:
        """Wait until nothing is being drawn, so that generators stand still."""
        for future in self._pending:
            future.result()

    def state_dict(self) -> dict[str, Any]:
        """Return the batches that nobody has taken yet."""
        return {"batches": [future.result()[0] for future in self._pending]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        def sent(part: Any) -> Any:
            if isinstance(part, torch.Tensor):
                return part.to(self.device)
            if isinstance(part, dict):
                return {key: sent(value) for key, value in part.items()}
            return type(part)(map(sent, part)) if isinstance(part, tuple | list) else part

        self._pending.clear()
        for batch in state["batches"]:
            self._pending.append(self.pool.submit(lambda batch=batch: (sent(batch), None)))


def tensors(batch: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor on a GPU in tuples, lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        if batch.is_cuda:
            yield batch
    elif isinstance(batch, dict):
        yield from tensors(tuple(batch.values()))
    elif isinstance(batch, Iterable) and not isinstance(batch, str | bytes) and not hasattr(batch, "__array__"):
        for part in batch:
            yield from tensors(part)
