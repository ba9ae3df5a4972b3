"""Dropout with a generator of its own: reproducible masks, one mask per item or one for the batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from uasbench.methods.nets.seeded_dropout import SeededDropout, seed_dropout


def test_dropout_follows_its_own_generator_and_rests_in_evaluation():
    layer = SeededDropout(0.3)
    net = nn.Sequential(nn.Linear(4, 4), layer)
    x = torch.ones(50, 40)
    seed_dropout(net, 1)
    first = layer(x)
    torch.manual_seed(123)
    seed_dropout(net, 1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert sorted(first.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_a_shared_mask_is_the_same_for_every_item():
    layer = SeededDropout(0.5)
    x = torch.ones(6, 40)
    seed_dropout(nn.Sequential(nn.Linear(1, 1), layer), 0)
    assert (layer(x) != layer(x)[:1]).any()
    layer.shared = True
    dropped = layer(x)
    assert torch.equal(dropped, dropped[:1].expand_as(x))
    assert 0 < (dropped == 0).float().mean() < 1
