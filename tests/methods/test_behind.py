"""Results are copied to the host one batch behind: the same ones in the same order."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from uasbench.methods import behind
from uasbench.methods.behind import fetched, one_behind
from uasbench.methods.training import predict


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("lengths", [(), (2,), (3, 1), (3, 3, 3), (2, 2, 2, 2, 1)])
def test_a_result_is_read_after_its_copy_has_ended_and_while_the_next_one_is_computed(lengths, early):
    results = [torch.full((n, 2), float(i)) for i, n in enumerate(lengths)]
    done: list[str] = []

    def computed() -> Iterator[torch.Tensor]:
        for i, result in enumerate(results):
            done.append(f"compute {i}")
            yield result

    def copy(buffer: torch.Tensor, result: torch.Tensor) -> Callable[[], object]:
        """Copy at once, which shows in a buffer that is lent too soon, or late, in one that is read too soon."""
        name = int(result[0, 0])
        done.append(f"copy {name}")
        if early:
            buffer.copy_(result)
        return lambda: (done.append(f"wait {name}"), None if early else buffer.copy_(result))

    found = []
    for part in one_behind(computed(), copy):
        found.append(part.clone())
        done.append(f"read {len(found) - 1}")
    assert all(torch.equal(a, b) for a, b in zip(found, results, strict=True))
    last, expected = len(lengths) - 1, []
    for i in range(len(lengths)):
        expected += [f"compute {i}", f"copy {i}", *([f"wait {i - 1}", f"read {i - 1}"] if i else [])]
    assert done == expected + ([f"wait {last}", f"read {last}"] if lengths else [])


class Stream:
    """Stands in for that of a GPU, and notes which events are waited for."""

    def __init__(self) -> None:
        self.events = 0
        self.waited: list[int] = []

    def record_event(self) -> "Stream.Event":
        self.events += 1
        return Stream.Event(self, self.events)

    class Event:
        def __init__(self, stream: "Stream", number: int) -> None:
            self.stream, self.number = stream, number

        def synchronize(self) -> None:
            self.stream.waited.append(self.number)


def test_predictions_are_the_same_one_batch_behind(monkeypatch):
    array = np.random.default_rng(0).random((7, 4, 5), np.float32)
    ahead: list[int] = []
    stream = Stream()

    def forward(x: torch.Tensor) -> torch.Tensor:
        ahead.append(stream.events - len(stream.waited))
        return 2 * x[:, 0].bfloat16()

    plain = predict(forward, array, batch=3, device="cpu")
    np.testing.assert_array_equal(plain, torch.from_numpy(array).bfloat16().mul(2).float().numpy())
    assert (ahead, stream.waited) == ([0, 0, 0], [])
    monkeypatch.setattr(behind, "untried", lambda device: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    np.testing.assert_array_equal(predict(forward, array, batch=3, device="cpu"), plain)
    assert ahead[3:] == [0, 1, 1], "a batch begins before the one before it has been waited for"
    assert stream.waited == [1, 2, 3]
    assert predict(forward, array[:0], batch=3, device="cpu").shape == (0, 4, 5)


@pytest.mark.gpu
def test_a_batch_on_a_gpu_begins_without_waiting(monkeypatch):
    monkeypatch.setenv("UASBENCH_UNTRIED", "1")
    results = [torch.rand(n, 64, 64, 2, device="cuda")[..., 0] for n in (4, 4, 4, 2)]
    expected = [result.cpu() for result in results]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [part.clone() for part in fetched(results, "cuda")]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
