"""VQ-VAE with a prior: codes, orderings, likelihoods one by one, thresholds, healing, the three maps, sizes."""

import numpy as np
import pytest
import torch
from uasbench.benchmark.catalogue.sizes import count_parameters
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext
from uasbench.methods.early_stopping import hold_out
from uasbench.methods.nets.token_prior import CausalTransformer, CodedSlices, TokenPriors, perplexity
from uasbench.methods.reconstruction.parts.token_maps import enlarged, gumbel, smoothed, weighted
from uasbench.methods.reconstruction.vqvae_prior import VQVAEPrior

SPACING = (1.0, 1.0, 1.0)


def priors(codes: int = 5, side: int = 3) -> TokenPriors:
    torch.manual_seed(0)
    return TokenPriors(codes, side, ("raster", "transposed"), 8, 2, 2).eval()


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_networks_of_the_paper_profile_have_the_parameters_of_their_layers():
    c, width, codes, length = 256, 256, 64, 256
    unit = 2 * (9 * c * c + c)
    encoder = 16 * c + c + 2 * (16 * c * c + c) + 3 * 2 * unit + 9 * c * 64 + 64
    decoder = 9 * 64 * c + c + 3 * 2 * unit + 2 * (16 * c * c + c) + 16 * c + 1
    block = 4 * width**2 + width + 8 * width**2 + 5 * width + 4 * width  # attention, dense layers, two norms
    transformer = (codes + 1) * width + length * width + 8 * block + (codes + 1) * (width + 1)
    with torch.device("meta"):
        assert sum(p.numel() for p in CausalTransformer(65, 256, 256, 8, 8).parameters()) == transformer
    total = encoder + decoder + codes * 64 + 2 * transformer
    assert count_parameters(VQVAEPrior, resolve(VQVAEPrior.Config, "paper")) == total


def test_orderings_go_row_by_row_and_column_by_column():
    assert priors().orders.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 3, 6, 1, 4, 7, 2, 5, 8]]


@pytest.mark.parametrize("which", [0, 1])
def test_surprise_is_that_of_each_token_given_those_before_it_one_by_one(which):
    net, tokens = priors(), torch.randint(5, (2, 9), generator=draws())
    found = net.surprise(tokens)[which]
    order = net.orders[which].tolist()
    for row in range(2):
        before = [5]  # opens the sequence
        for place in order:
            logits = net.nets[which](torch.tensor([before]))[0, -1]
            chance = torch.softmax(logits, 0)[tokens[row, place]]
            assert found[row, place].item() == pytest.approx(-chance.log().item(), abs=1e-4)
            before.append(int(tokens[row, place]))


def test_a_token_is_healed_given_the_healed_ones_before_it():
    net, tokens = priors(), torch.randint(5, (3, 9), generator=draws(1))
    unlikely = torch.rand(3, 9, generator=draws(2)) < 0.5
    unlikely[2] = False
    for which in (0, 1):
        found, order = net.healed(which, tokens, unlikely), net.orders[which].tolist()
        for row in range(3):
            before = [5]
            for place in order:
                token = int(tokens[row, place])
                if unlikely[row, place]:
                    token = int(net.nets[which](torch.tensor([before]))[0, -1, :5].argmax())
                assert int(found[row, place]) == token
                before.append(token)
        assert torch.equal(found[2], tokens[2])


def test_the_token_that_opens_sequences_is_never_chosen():
    net = priors()
    with torch.no_grad():
        net.nets[0].head.bias[5] = 1e3
    healed = net.healed(0, torch.zeros(4, 9, dtype=torch.int64), torch.ones(4, 9, dtype=torch.bool))
    assert healed.max() < 5


def test_with_gumbel_noise_tokens_are_drawn_from_their_distribution():
    net, count = priors(), 4000
    tokens, first = torch.zeros(count, 9, dtype=torch.int64), torch.zeros(count, 9, dtype=torch.bool)
    first[:, 0] = True
    drawn = net.healed(0, tokens, first, gumbel(np.arange(count), 3, (9, 5)))[:, 0]
    expected = torch.softmax(net.logits(0, tokens[:1])[0, 0, :5], 0)
    assert torch.allclose(torch.bincount(drawn, minlength=5) / count, expected, atol=0.03)
    assert torch.equal(gumbel(np.array([7]), 3, (9, 5))[0], gumbel(np.arange(9), 3, (9, 5))[7])
    assert not torch.equal(gumbel(np.array([7]), 3, (9, 5)), gumbel(np.array([7]), 4, (9, 5)))


def test_codes_are_the_nearest_entries_and_training_moves_the_codebook_alone_to_them():
    torch.manual_seed(0)
    coder, x = CodedSlices((4, 4), 1, 6, 3), torch.rand(2, 1, 16, 16)
    book = coder.net.quantizer.quantizer.embedding.weight
    encoded = coder.eval().net.encode(x).movedim(1, -1).reshape(-1, 3)
    nearest = torch.cdist(encoded, book).argmin(1)
    assert torch.equal(coder.tokens(x).flatten(), nearest)
    seen, _, numbers = coder(x)
    assert torch.equal(numbers.flatten(), nearest)
    assert torch.allclose(coder.decode(coder.tokens(x)), seen, atol=1e-5)
    before = book.clone()
    coder(x)
    assert torch.equal(book, before)
    coder.train()(x)
    assert not torch.equal(book, before)


def test_codes_out_of_use_move_to_encodings_and_used_ones_stay():
    torch.manual_seed(0)
    coder, x = CodedSlices((4, 4), 1, 6, 3), torch.rand(4, 1, 16, 16)
    quantiser = coder.net.quantizer.quantizer
    quantiser.ema_cluster_size[2] = 5.0
    used = quantiser.embedding.weight[2].clone()
    coder.revive(x, draws())
    encoded = coder.net.encode(x).movedim(1, -1).reshape(-1, 3)
    assert torch.equal(quantiser.embedding.weight[2], used)
    others = quantiser.embedding.weight[[0, 1, 3, 4, 5]]
    assert torch.cdist(others, encoded).min(1).values.max() < 1e-3
    assert quantiser.ema_cluster_size.tolist() == [1, 1, 5, 1, 1, 1]


def test_perplexity_counts_codes_in_use():
    assert perplexity(torch.tensor([[0, 1], [2, 3]]), 8).item() == pytest.approx(4)
    assert perplexity(torch.tensor([5, 5, 5]), 8).item() == pytest.approx(1)
    share = np.array([0.75, 0.25])
    assert perplexity(torch.tensor([1, 1, 1, 0]), 2).item() == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_encoder_sees_no_border_in_a_uniform_slice():
    torch.manual_seed(0)
    codes = CodedSlices((4, 4), 2, 16, 3).net.encode(torch.full((1, 1, 32, 32), 0.6))
    assert (codes - codes[:, :, :1, :1]).abs().max() < 1e-5


@pytest.fixture(scope="module")
def trained(train, healthy):
    """A method after its smoke training, and the slices that set its threshold."""
    method, _ = train(VQVAEPrior)
    stack = healthy.array(method.view)
    return method, stack.take(hold_out(healthy, stack, FitContext(0).rng("hold-out"))[1])


def test_thresholds_are_quantiles_of_the_organs_codes_in_healthy_patients_who_train_nothing(trained, healthy):
    """The tutorial's are quantiles of the test slice, of which it always heals the same share."""
    method, (images, rois) = trained
    assert len(images) == 8
    values = [[], []]
    for image, roi in zip(images, rois, strict=True):
        _, organ, _, surprise = method.coded(image[None], roi[None])
        for k in range(2):
            values[k] += surprise[k][organ].tolist()
    for rate in (0.01, 0.1, 0.5):
        expected = [np.quantile(v, 1 - rate) for v in values]
        assert np.allclose(method.thresholds(rate), expected, rtol=1e-2, atol=1e-3)
    method.surprises = method.surprises + 100
    try:
        assert not method.score_view(images, rois, SPACING).any(), "nothing is healed where no code is unlikely"
    finally:
        method.surprises = method.surprises - 100


def test_provenance_says_how_many_codes_are_in_use(trained):
    method, (images, rois) = trained
    used = np.concatenate(
        [t[o].numpy() for _, o, t, _ in (method.coded(images[i : i + 1], rois[i : i + 1]) for i in range(8))]
    )
    share = np.bincount(used) / len(used)
    expected = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert method.perplexity == pytest.approx(expected, rel=1e-4)
    assert method.provenance() == {"codebook perplexity": f"{expected:.1f} of 8"}


def scored(method, images, rois, **settings):
    config = method.config
    method.config = type(config)(**{**vars(config), **settings})
    try:
        return method.compared(images, rois)
    finally:
        method.config = config


def test_the_healed_map_is_the_change_where_codes_were_replaced(trained):
    method, (images, rois) = trained
    map_, _ = scored(method, images[:3], rois[:3], rate=0.5)
    seen, organ, tokens, surprise = method.coded(images[:3], rois[:3])
    changes = []
    for k in range(2):
        flags = (surprise[k] > method.thresholds(0.5)[k]) & organ
        healed = method.coder.decode(method.prior.healed(k, tokens, flags))
        cells = flags.view(3, 1, 4, 4).float().repeat_interleave(4, 2).repeat_interleave(4, 3)
        changes.append((healed - seen).abs() * cells)
    from uasbench.methods.roi_crop import SquareCrops

    crops = SquareCrops.around(torch.from_numpy(rois[:3]), 16)
    expected = crops.put_back(((changes[0] + changes[1]) / 2)[:, 0]).detach().numpy() * rois[:3]
    assert expected.any()
    assert np.allclose(map_, expected, atol=1e-5)


def test_the_likelihood_map_is_the_mean_surprise_of_organ_cells(trained):
    method, (images, rois) = trained
    map_, _ = scored(method, images[:2], rois[:2], score="likelihood")
    _, organ, _, surprise = method.coded(images[:2], rois[:2])
    mean = surprise.mean(0)
    assert not map_[~rois[:2]].any()
    assert map_[0, 16, 16] == pytest.approx(mean[0].view(4, 4)[1:3, 1:3].mean().item(), rel=0.5)
    least, most = mean[organ].min().item(), mean[organ].max().item()
    assert map_.max() <= most + 1e-5
    assert least > 0


def test_samples_near_the_slice_count_more():
    seen, inside = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    images = torch.stack([torch.full_like(seen, 1.0), torch.full_like(seen, 2.0)])
    weights = np.exp([3 / 1, 3 / 2]) / np.exp([3 / 1, 3 / 2]).sum()
    found = weighted(images, seen, inside, 3.0)
    assert torch.allclose(found, torch.full_like(seen, float(weights @ [1, 2])))
    assert torch.allclose(weighted(images[:1], seen, inside, 3.0), images[0])


def test_the_map_over_samples_depends_on_its_seed_and_is_filtered_across_slices(trained):
    method, (images, rois) = trained
    first, again = (scored(method, images, rois, score="lsr", lsr_rate=0.5)[0] for _ in range(2))
    assert np.array_equal(first, again)
    one = np.zeros((5, 9, 9))
    one[1:4, 3:6, 3:6] = 1
    expected = np.zeros_like(one)
    expected[1:4, 1:8, 1:8] = 1 / (3 * 7 * 7)
    assert np.allclose(smoothed(one), expected)


def test_cells_are_enlarged_to_squares_of_pixels():
    cells = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    found = enlarged(cells, torch.empty(1, 1, 4, 4))[0, 0]
    assert found.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
