"""Checkpoints inside a training: what goes on, what begins again, and what is said about it."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from uasbench.common.seeds import seed_everything
from uasbench.methods.ahead import drawn_ahead
from uasbench.methods.context import FitContext
from uasbench.methods.early_stopping import train_until_no_gain
from uasbench.methods.resuming import Resumption
from uasbench.methods.training import Batches, batches, quicker_first, run_updates, update


class Killed(BaseException):
    pass


def context(folder, method, every_s=0.0, killed_at=None, **options) -> FitContext:
    def progress(done, total):
        if done == killed_at:
            raise Killed

    resumption = None if folder is None else Resumption(method, folder, every_s)
    return FitContext(7, on_progress=progress, resumption=resumption, **options)


def trained(folder, *, killed_at=None, every_s=0.0, keep=True, attribute=0):
    """Train a line for ten updates; return its weights and its curve."""
    seed_everything(0)
    method = SimpleNamespace(net=torch.nn.Linear(3, 1), config=None, device="cpu", attribute=attribute)
    curve = []
    ctx = context(folder, method, every_s, killed_at, on_log=lambda step, values: curve.append((step, values["loss"])))
    order, noise = batches(ctx, 11, 4, "order"), ctx.generator("noise")
    made = torch.optim.Adam(method.net.parameters(), lr=1e-2)
    optimiser = ctx.keep(made) if keep else made
    quicker_first(ctx, optimiser, 0.1, 10)
    schedule = ctx.keep(torch.optim.lr_scheduler.MultiStepLR(optimiser, [7]))
    values = torch.linspace(0, 1, 33).reshape(11, 3)

    def draw():
        of_the_process = torch.rand(1) + random.random() + float(np.random.random())
        return values[next(order)] + torch.rand(4, 3, generator=noise) + of_the_process

    def step(_):
        loss = update(optimiser, (method.net(draw()) - 1).square().mean())
        schedule.step()
        return {"loss": loss}

    run_updates(ctx, 10, step)
    return method.net.weight.detach().clone(), curve


@pytest.mark.parametrize("killed_at", [1, 5, 6, 9])
def test_a_training_goes_on_after_its_last_checkpoint_with_the_same_bits_and_the_same_curve(
    tmp_path, capsys, killed_at
):
    weight, curve = trained(None)
    with pytest.raises(Killed):
        trained(tmp_path, killed_at=killed_at)
    resumed, second = trained(tmp_path)
    assert f"resumed after {killed_at} updates" in capsys.readouterr().out
    assert torch.equal(resumed, weight)
    assert second == curve


def test_batches_that_a_thread_has_drawn_ahead_are_not_lost(tmp_path):
    def numbers(killed_at=None):
        method = SimpleNamespace(net=torch.nn.Linear(1, 1), config=None, device="cpu")
        ctx, seen = context(tmp_path, method, killed_at=killed_at), []
        order = batches(ctx, 40, 2, "order")
        optimiser = ctx.keep(torch.optim.SGD(method.net.parameters(), lr=0.1))
        with drawn_ahead(lambda: torch.from_numpy(next(order)), ctx, threaded=True) as following:

            def step(_):
                seen.append(following().tolist())
                return {"loss": update(optimiser, method.net.weight.sum())}

            try:
                run_updates(ctx, 12, step)
            except Killed:
                return seen
        return seen

    ctx = FitContext(7)
    plain = batches(ctx, 40, 2, "order")
    assert numbers(killed_at=5) + numbers() == [next(plain).tolist() for _ in range(12)]


def test_a_checkpoint_is_written_when_it_is_due_and_none_before(tmp_path):
    trained(tmp_path, every_s=1e6)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_said_and_the_training_begins_again(tmp_path, capsys):
    weight, _ = trained(None)
    with pytest.raises(Killed):
        trained(tmp_path, killed_at=5)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert torch.equal(trained(tmp_path)[0], weight)
    assert "resume-1.pt is damaged" in capsys.readouterr().out


def test_a_loop_whose_optimiser_is_not_kept_begins_again(tmp_path):
    with pytest.raises(Killed):
        trained(tmp_path, killed_at=5, keep=False)
    assert not list(tmp_path.iterdir())


def test_an_attribute_that_cannot_be_stored_is_said_once_and_the_training_goes_on(tmp_path, capsys):
    trained(tmp_path, attribute=object())
    assert capsys.readouterr().out.count("cannot be resumed after a stop: SimpleNamespace.attribute is a object") == 1
    assert not list(tmp_path.iterdir())


def test_of_several_loops_those_before_are_done_again_from_their_last_checkpoint(tmp_path):
    def fit(killed_at=None):
        torch.manual_seed(0)
        method = SimpleNamespace(a=torch.nn.Linear(2, 1), b=torch.nn.Linear(2, 1), config=None, device="cpu")
        ctx, done = context(tmp_path, method, max_updates=6), []
        for name in ("a", "b"):
            net, x = getattr(method, name), torch.rand(3, 2)
            optimiser = ctx.keep(torch.optim.Adam(net.parameters()))

            def step(i, net=net, x=x, optimiser=optimiser, name=name):
                done.append((name, i))
                if (name, i) == killed_at:
                    raise Killed
                return {"loss": update(optimiser, net(x).square().mean())}

            try:
                run_updates(ctx, 6, step, phase=name)
            except Killed:
                break
        return method.b.weight.detach().clone(), done

    undisturbed, _ = fit()
    for path in tmp_path.iterdir():
        path.unlink()
    fit(killed_at=("b", 3))
    resumed, done = fit()
    assert done == [("b", 3), ("b", 4), ("b", 5)]
    assert torch.equal(resumed, undisturbed)


def test_early_stopping_remembers_its_best_weights_and_its_patience(tmp_path):
    losses = [5.0, 3.0, 4.0, 6.0, 3.5, 2.0, 1.0]

    def fit(folder, killed_in=None):
        torch.manual_seed(0)
        method = SimpleNamespace(net=torch.nn.Linear(1, 1), config=None, device="cpu")
        ctx, epochs = context(folder, method), ctx_epochs
        optimiser = ctx.keep(torch.optim.SGD(method.net.parameters(), lr=0.1))

        def validate():
            if len(epochs) == killed_in:
                raise Killed
            epochs.append(losses[len(epochs)])
            return epochs[-1]

        done = train_until_no_gain(
            ctx, method.net, lambda i: {"loss": update(optimiser, method.net.weight.sum())}, validate,
            per_epoch=2, updates=100, patience=3,
        )  # fmt: skip
        return done, method.net.weight.item()

    ctx_epochs: list[float] = []
    undisturbed = fit(None)
    ctx_epochs = []
    with pytest.raises(Killed):
        fit(tmp_path, killed_in=3)
    assert fit(tmp_path) == undisturbed == (10, undisturbed[1])


def test_an_order_of_batches_continues_within_an_epoch():
    ctx = FitContext(0)
    order = Batches(10, 4, ctx.rng("order"))
    next(order)
    state, rng = json.loads(json.dumps(order.state_dict())), ctx.rng("order")
    rng.bit_generator.state = order.rng.bit_generator.state
    other = Batches(10, 4, rng)
    other.load_state_dict(state)
    assert all((next(order) == next(other)).all() for _ in range(7))
