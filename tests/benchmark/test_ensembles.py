"""An ensemble: each member a fit of its own, shared between score settings, never between seeds; the map a median."""

import numpy as np
import pytest
from uasbench.benchmark.runs.map_store import read_map

PLUGIN = """
from dataclasses import dataclass, field
import numpy as np
from uasbench import Method, MethodCard, View
from uasbench.methods.config import Config

@dataclass(frozen=True)
class VotesConfig(Config):
    size: int = 32
    votes: int = field(default=3, metadata={"stage": "score"})
    only: int | None = field(default=None, metadata={"stage": "score"})
    cut: float = field(default=0.5, metadata={"stage": "score"})

class Votes(Method):
    card = MethodCard(name="votes", title="One random constant per member")
    Config = VotesConfig
    native_threshold = 0.5

    @property
    def view(self):
        return View(size=self.config.size)

    @property
    def members(self):
        return self.config.votes if self.config.only is None else (self.config.only,)

    def fit(self, healthy, ctx):
        self.level = float(ctx.rng("level").random())

    def score_view(self, array, roi, spacing):
        return np.full(array.shape, self.level, np.float32)

    def postprocess_view(self, array, roi, scores, spacing):
        return (array > self.config.cut) & roi
"""


@pytest.fixture(scope="module")
def installed(package, tmp_path_factory):
    """The plug-in, on the path of this module's tests."""
    from uasbench.benchmark.catalogue import registry

    site = tmp_path_factory.mktemp("votes")
    package(site, "voting", {"voting.py": PLUGIN}, {"methods": {"votes": "voting:Votes"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry.refresh()
        yield
    registry.refresh()


@pytest.fixture(scope="module")
def done(quick_run, installed, root, cache, tmp_path_factory):
    """A run of three members, of one, of two and of the second alone, and with another threshold."""
    options = {"data_root": root, "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    variants = ["one:votes.votes=1", "pair:votes.votes=2", "cut:votes.cut=0.1", "second:votes.only=1"]
    found = quick_run("votes", "lits", variants=variants, out=tmp_path_factory.mktemp("ensembles") / "run", **options)
    assert not found.failures
    return found


def test_members_are_fits_of_their_own_and_the_map_is_their_median(done):
    records = {r.cell.method: r for r in done.records}
    fits = {name: records[name].ids.fits for name in ("votes", "votes@one", "votes@pair", "votes@cut")}
    assert [len(f) for f in fits.values()] == [3, 1, 2, 3]
    assert fits["votes@one"] == fits["votes"][:1]
    assert fits["votes@pair"] == fits["votes"][:2]
    assert fits["votes"] == fits["votes@cut"]
    assert records["votes@second"].ids.fits == fits["votes"][1:2]
    assert len(list((done.path / "fits").iterdir())) == 3
    assert records["votes"].cost.fit_s == pytest.approx(sum(done.folder.fit_seconds(f) for f in fits["votes"]))

    maps = {name: done.path / "maps" / records[name].cell.slug for name in records}
    case = next(maps["votes"].glob("*.map")).name
    values = {name: read_map(folder / case).values for name, folder in maps.items()}
    assert all(np.ptp(found) == 0 for found in values.values())
    one, pair, three = (values[name][0] for name in ("votes@one", "votes@pair", "votes"))
    second = values["votes@second"][0]
    assert second == pytest.approx(2 * pair - one, rel=1e-5)
    assert min(one, second) - 1e-6 <= three <= max(one, second) + 1e-6


@pytest.mark.usefixtures("installed")
def test_no_two_seeds_share_a_member(plan):
    zero, one = (plan("votes", seeds=[seed])[1]["votes"].ids.fits for seed in (0, 1))
    assert len({*zero, *one}) == 6


def test_a_decision_on_the_view_is_mapped_back_and_stays_inside_the_region(done):
    from uasbench.benchmark.runs.map_store import read_mask

    (record,) = (r for r in done.records if r.cell.method == "votes")
    folder = done.path / "maps" / record.cell.slug
    masks = {path.stem: read_mask(path) for path in folder.glob("*.mask")}
    assert set(masks) == set(record.data.cases)
    assert all(mask.any() for mask in masks.values())
    assert {v.protocol for v in record.per_case if v.metric == "dice" and v.value is not None} >= {"native", "oracle"}
