"""An ensemble: each member a fit of its own, shared between score settings, never between seeds; the map a median."""

import numpy as np
import pytest
from uasbench.benchmark.runs.map_store import read_map
from uasbench.datasets.phantom.disk import write_phantom

PLUGIN = """
from dataclasses import dataclass, field
import numpy as np
from uasbench import Method, MethodCard, View
from uasbench.methods.config import Config

@dataclass(frozen=True)
class VotesConfig(Config):
    size: int = 32
    votes: int = field(default=3, metadata={"stage": "score"})
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
        return self.config.votes

    def fit(self, healthy, ctx):
        self.level = float(ctx.rng("level").random())

    def score_view(self, array, roi, spacing):
        return np.full(array.shape, self.level, np.float32)

    def postprocess_view(self, array, roi, scores, spacing):
        return (array > self.config.cut) & roi
"""


@pytest.fixture(scope="module")
def options(package, tmp_path_factory):
    """Options of a run in which the plug-in is installed."""
    from uasbench.benchmark.catalogue import registry

    here = tmp_path_factory.mktemp("votes")
    write_phantom(here / "data", anatomy="liver", seed=0, size="smoke")
    package(here / "site", "voting", {"voting.py": PLUGIN}, {"methods": {"votes": "voting:Votes"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(here / "site"))
        registry.refresh()
        yield {"data_root": here / "data", "cache": here / "cache", "profile": "smoke"}
    registry.refresh()


@pytest.fixture(scope="module")
def done(quick_run, options, tmp_path_factory):
    """A run of three members, of one and of five, and with another threshold."""
    variants = ["one:votes.votes=1", "five:votes.votes=5", "cut:votes.cut=0.1"]
    out = tmp_path_factory.mktemp("ensembles") / "run"
    found = quick_run("votes", "lits", variants=variants, seeds=[0, 1], out=out, **options)
    assert not found.failures
    return found


def test_members_are_fits_of_their_own_and_the_map_is_their_median(quick_run, options, done, tmp_path):
    by_cell = {(r.cell.method, r.cell.seed): r for r in done.records}
    fits = {name: by_cell[name, 0].ids.fits for name in ("votes", "votes@one", "votes@five", "votes@cut")}
    assert [len(f) for f in fits.values()] == [3, 1, 5, 3]
    assert fits["votes@one"] == fits["votes"][:1] == fits["votes@five"][:1]
    assert fits["votes"] == fits["votes@cut"] == fits["votes@five"][:3]
    assert not set(by_cell["votes@five", 1].ids.fits) & set(fits["votes@five"])
    assert len(list((done.path / "fits").iterdir())) == 10
    assert by_cell["votes", 0].cost.fit_s == pytest.approx(sum(done.folder.fit_seconds(f) for f in fits["votes"]))

    maps = {name: done.path / "maps" / by_cell[name, 0].cell.slug for name in fits}
    case = next(maps["votes"].glob("*.map")).name
    five = {name: read_map(folder / case).values for name, folder in maps.items()}
    assert all(np.ptp(values) == 0 for values in five.values())
    singles = quick_run("votes", "lits", set={"votes": {"votes": 2}}, seeds=[0], out=tmp_path / "two", **options)
    pair = read_map(singles.path / "maps" / singles.records[0].cell.slug / case).values[0]
    one = five["votes@one"][0]
    second = 2 * pair - one
    third = five["votes"][0]
    assert min(one, second) - 1e-6 <= third <= max(one, second) + 1e-6 or third in (one, second)


def test_a_decision_on_the_view_is_mapped_back_and_stays_inside_the_region(done):
    from uasbench.benchmark.runs.map_store import read_mask

    record = next(r for r in done.records if (r.cell.method, r.cell.seed) == ("votes", 0))
    folder = done.path / "maps" / record.cell.slug
    masks = {path.stem: read_mask(path) for path in folder.glob("*.mask")}
    assert set(masks) == set(record.data.cases)
    assert all(mask.any() for mask in masks.values())
    assert {v.protocol for v in record.per_case if v.metric == "dice" and v.value is not None} >= {"native", "oracle"}
