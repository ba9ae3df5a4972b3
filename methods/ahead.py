"""The next batch is drawn while the present one is learned from: synthesis on the host, or on the GPU beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from ..common.untried import untried

T = TypeVar("T")
BATCHES = 2


@contextmanager
def drawn_ahead(draw: Callable[[], T], device: str, threaded: bool | None = None) -> Iterator[Callable[[], T]]:
    """Give what yields the batches of ``draw``, the same in the same order, drawn by a thread on a GPU.

    ``draw`` uses generators of its own, and its batches hold tensors in tuples, lists or dictionaries. ``threaded``
    overrides the choice by device.
    """
    if not (untried(device) if threaded is None else threaded):
        yield draw
        return
    on_gpu = device.startswith("cuda")
    stream = torch.cuda.Stream(device) if on_gpu else None

    def drawn() -> tuple[T, Any]:
        if stream is None:
            return draw(), None
        with torch.cuda.stream(stream):
            return draw(), stream.record_event()

    pending: deque[Future[tuple[T, Any]]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def following() -> T:
            while len(pending) < BATCHES:
                pending.append(pool.submit(drawn))
            batch, event = pending.popleft().result()
            pending.append(pool.submit(drawn))
            if event is not None:
                here = torch.cuda.current_stream(device)
                here.wait_event(event)
                for tensor in tensors(batch):
                    tensor.record_stream(here)  # its memory is not given away while this stream still reads it
            return batch

        try:
            yield following
        finally:
            pool.shutdown(cancel_futures=True)


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
