"""The results of a batch reach the host while the GPU computes the next one, so that it does not stand still."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from ..common.untried import untried

BUFFERS = 2


def fetched(results: Iterable[torch.Tensor], device: str) -> Iterator[torch.Tensor]:
    """Give the results of batches on the host, in order; each may be overwritten once the next one is asked for.

    No result is longer than the first one.
    """
    if not untried(device):
        return (result.cpu() for result in results)
    stream = torch.cuda.current_stream(device)

    def copy(buffer: torch.Tensor, result: torch.Tensor) -> Callable[[], object]:
        buffer.copy_(result, non_blocking=True)
        return stream.record_event().synchronize

    return one_behind(results, copy)


def one_behind(
    results: Iterable[torch.Tensor], copy: Callable[[torch.Tensor, torch.Tensor], Callable[[], object]]
) -> Iterator[torch.Tensor]:
    """Give each result from a buffer on the host, pinned where it comes from a GPU, when the next copy has begun.

    ``copy(buffer, result)`` begins a copy and returns what waits for its end.
    """
    buffers: list[torch.Tensor] = []
    begun: list[tuple[torch.Tensor, Callable[[], object]]] = []
    for number, result in enumerate(results):
        if number < BUFFERS:
            buffers.append(torch.empty(result.shape, dtype=result.dtype, pin_memory=result.is_cuda))
        buffer = buffers[number % BUFFERS][: len(result)]
        begun.append((buffer, copy(buffer, result)))
        if number:
            yield _whole(*begun.pop(0))
    for last in begun:
        yield _whole(*last)


def _whole(buffer: torch.Tensor, wait: Callable[[], object]) -> torch.Tensor:
    wait()
    return buffer
