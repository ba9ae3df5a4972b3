"""Batches drawn ahead: the same ones in the same order, at most a few too many, and no thread left."""

import threading

import pytest
import torch
from uasbench.methods.ahead import BATCHES, drawn_ahead, tensors
from uasbench.methods.context import FitContext


def source():
    """Return what draws numbered batches, and the list of those that were drawn."""
    generator, drawn = torch.Generator().manual_seed(0), []

    def draw() -> tuple[int, torch.Tensor]:
        drawn.append(len(drawn))
        return drawn[-1], torch.rand(3, generator=generator)

    return draw, drawn


@pytest.mark.parametrize("threaded", [False, True])
def test_batches_come_in_their_order_and_hardly_more_are_drawn(threaded):
    plain, _ = source()
    expected = [plain() for _ in range(10)]
    draw, drawn = source()
    with drawn_ahead(draw, FitContext(0), threaded) as following:
        found = [following() for _ in range(10)]
    assert [number for number, _ in found] == list(range(10))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, expected, strict=True))
    assert len(drawn) <= 10 + (BATCHES if threaded else 0)


def test_on_the_cpu_no_thread_takes_another_core():
    before = threading.active_count()
    with drawn_ahead(source()[0], FitContext(0)) as following:
        following()
        assert threading.active_count() == before


def test_what_drawing_raises_is_raised_where_the_batch_is_wanted_and_the_thread_ends():
    before = threading.active_count()

    def fail() -> int:
        raise ValueError("no batch")

    with drawn_ahead(fail, FitContext(0), threaded=True) as following, pytest.raises(ValueError, match="no batch"):
        following()
    assert threading.active_count() == before


def test_a_phase_that_is_over_leaves_nothing_for_the_checkpoints_of_the_next_one():
    context = FitContext(0)
    with drawn_ahead(source()[0], context, threaded=True) as following:
        following()
        assert context.kept[-1].state_dict()["batches"]
    state = context.kept[-1].state_dict()
    assert state == {"batches": []}
    context.kept[-1].load_state_dict(state)


def test_tensors_on_a_gpu_are_found_in_any_batch():
    assert list(tensors([torch.zeros(2), {"a": (torch.zeros(1), 3)}, "text", None])) == []


@pytest.mark.gpu
def test_batches_of_another_stream_are_whole_on_this_one():
    generator = torch.Generator("cuda").manual_seed(0)

    def draw() -> dict[str, torch.Tensor]:
        return {"x": torch.rand(2000, 2000, generator=generator, device="cuda") @ torch.ones(2000, 2000, device="cuda")}

    expected = [float(draw()["x"].sum()) for _ in range(20)]
    generator.manual_seed(0)
    with drawn_ahead(draw, FitContext(0, device="cuda"), threaded=True) as following:
        found = [float(following()["x"].sum()) for _ in range(20)]
    assert found == expected
