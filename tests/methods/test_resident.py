"""Training slices on a device: the same batches, whether all of them lie there or each is copied."""

import numpy as np
import pytest
import torch
from uasbench import FitContext, View
from uasbench.methods.resident import ResidentSlices, sent
from uasbench.methods.training import run_updates

NUMBERS = np.array([3, 0, 3, 7, 1])


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("held", [True, False])
def test_batches_are_those_of_the_stack(healthy, dtype, held):
    stack = healthy.array(View(size=32, dtype=dtype))
    slices = ResidentSlices(stack, "cpu", held)
    assert len(slices) == len(stack) > NUMBERS.max()
    expected = stack.take(NUMBERS)
    for _ in range(2):
        found = slices.take(NUMBERS)
        for tensor, array in zip(found, expected, strict=True):
            assert tensor.dtype == torch.from_numpy(array).dtype
            np.testing.assert_array_equal(tensor.numpy(), array)
            tensor.zero_()  # a batch may be changed, and the next one is whole again


def test_nothing_is_held_on_the_cpu_where_the_stack_lies_in_memory_already(healthy):
    assert ResidentSlices(healthy.array(View(size=32)), "cpu")._held is None


def test_an_array_is_sent_with_its_values_and_type():
    array = np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1]
    tensor = sent(array, "cpu")
    assert tensor.dtype == torch.int64
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.gpu
def test_a_batch_on_a_gpu_waits_for_nothing(healthy, monkeypatch):
    monkeypatch.setenv("UASBENCH_UNTRIED", "1")
    stack = healthy.array(View(size=32))
    slices = ResidentSlices(stack, "cuda")
    slices.take(NUMBERS)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = slices.take(NUMBERS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for tensor, array in zip(found, stack.take(NUMBERS), strict=True):
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)


def test_what_an_update_waits_for_is_noticed(waits):
    def step(i: int) -> dict[str, torch.Tensor]:
        mask = torch.arange(3) > i
        if bool(mask.any()):
            torch.arange(3.0)[mask] = 0
        return {"n": torch.nonzero(mask).float().mean()}

    with waits:
        run_updates(FitContext(seed=0), 1, step)
    assert len(waits.places) == 3
