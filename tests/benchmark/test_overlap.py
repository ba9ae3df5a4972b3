"""Pre-training overlap: levels, twins of data sets, marks, and rows that saw the masks of the test set."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.experiments import load
from uasbench.benchmark.planning.options import experiment_options, validated
from uasbench.benchmark.planning.overlap import HOLDS, held_by, names_of, seen
from uasbench.benchmark.planning.plan import PlanError
from uasbench.cli import app
from uasbench.datasets.planted.sets import planted_card
from uasbench.methods.card import MethodCard
from uasbench.methods.config import resolve
from uasbench.methods.nets.corpora import IMAGENET, of_backbone
from uasbench.methods.pretraining import LEVELS, NAMING, NONE, Pretraining

METHODS = """
from dataclasses import dataclass

import numpy as np
from uasbench import Config, Method, MethodCard, Pretraining


class Plain(Method):
    card = MethodCard(name="plain", title="Plain", deterministic=True)

    def fit(self, healthy, ctx):
        pass

    def score(self, case):
        return np.abs(case.image)


@dataclass(frozen=True)
class SeenConfig(Config):
    level: str = "volumes"
    of: str = "ct-org"


class Seen(Plain):
    card = MethodCard(name="seen", title="Seen", deterministic=True)
    Config = SeenConfig

    @property
    def pretraining(self):
        c = self.config
        return c.of if c.level == "nonsense" else Pretraining(c.level, (c.of,), "somebody's scans")


class Borrowed(Plain):
    card = MethodCard(name="borrowed", title="Borrowed", deterministic=True, labels_elsewhere=("msd-colon",))


class Taught(Plain):
    card = MethodCard(name="taught", title="Taught", deterministic=True, labels_elsewhere=("msd-liver",))
"""


@pytest.fixture
def _plugins(install: Callable[..., Path]) -> None:
    points = {name.lower(): f"seeing_plugin:{name}" for name in ("Plain", "Seen", "Borrowed", "Taught")}
    install("pkg-seen", {"seeing_plugin.py": METHODS}, methods=points)


@pytest.mark.usefixtures("_plugins")
class TestRows:
    def test_what_had_seen_the_test_set_is_marked_and_recorded(self, run):
        variants = ["other:seen.of=kits19", "pictures:seen.level=pictures"]
        done = run("plain,seen,borrowed,taught", variants=variants, allow_overlap=True)
        assert not done.failures
        assert json.loads((done.path / "run.json").read_text())["options"]["allow_overlap"] is True
        flags = done.table("summary").groupby("method")["flags"].first()
        marked = {name: {"overlap", "labels-elsewhere"} & {*flags[name].split(";")} for name in flags.index}
        assert marked == {
            "plain": set(), "seen": {"overlap"}, "borrowed": {"labels-elsewhere"},
            "taught": {"overlap", "labels-elsewhere"},
            "seen@other": set(), "seen@pictures": {"overlap"},
        }  # fmt: skip
        told = {r.cell.method: (r.method.overlap, r.method.pretraining) for r in done.records}
        assert told["plain"] == ("none", "none")
        assert told["seen"] == ("volumes", "volumes: ct-org (somebody's scans)")
        assert told["seen@other"][0] == "none"
        report = (done.path / "report.html").read_text()
        assert "pre-training overlap of the weights: volumes: ct-org" in report
        assert "º the weights it started from had seen the test set." in report

    def test_what_learned_from_masks_of_the_test_set_is_refused_unless_asked_for(self, plan):
        settings = {"seen": {"level": "masks"}}
        task, cells = plan("plain,seen,taught", settings=settings)
        assert set(cells) == {"plain"}
        reasons = {skip.method: skip.reason for skip in task.skipped}
        assert set(reasons) == {"seen", "taught"}
        assert "masks of lits before this run (ct-org); --allow-overlap" in reasons["seen"]
        assert "(msd-liver)" in reasons["taught"]
        _, cells = plan("plain,seen,taught", settings=settings, allow_overlap=True)
        assert {name: cell.measure.method.overlap for name, cell in cells.items()} == {
            "plain": "none", "seen": "masks", "taught": "masks",
        }  # fmt: skip
        with pytest.raises(PlanError, match=r"no method can run on lits: taught: .* --allow-overlap"):
            plan("taught")

    def test_an_answer_that_is_no_description_breaks_this_method_alone(self, plan):
        task, cells = plan("plain,seen", settings={"seen": {"level": "nonsense"}})
        assert set(cells) == {"plain"}
        assert [(label, "return a Pretraining" in why) for label, why in task.broken] == [("seen", True)]


def test_every_command_that_trains_a_task_has_the_option():
    for command in ("run", "plan", "reproduce"):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        assert "--allow-overlap" in shown, command
    assert validated(datasets=["lits"]).allow_overlap is False
    name = "liver/table2"
    assert load(name)
    assert experiment_options(name, allow_overlap=True).allow_overlap


@given(level=st.sampled_from(NAMING), name=st.sampled_from([*HOLDS]))
def test_who_has_seen_a_collection_has_seen_its_parts_and_its_twins(level, name):
    for part in HOLDS[name]:
        assert seen(Pretraining(level, (name.upper(),)), [part]) == level
        assert seen(Pretraining(level, (part,)), [name]) == level, "the same scans under another name"
    assert seen(Pretraining(level, (name,)), ["chaos"]) == "none"
    assert seen(Pretraining(level, (name,)), ["chaos", name]) == level


def test_the_known_twins_are_twins():
    assert {"lits", "msd03"} <= held_by(["MSD03"])
    assert seen(Pretraining("volumes", ("LIDC-IDRI",)), ["luna16"]) == "volumes"
    known = set(registry.datasets().names())
    assert {part for parts in HOLDS.values() for part in parts} <= known


def test_a_set_that_shows_another_again_is_that_one_too():
    cards = registry.datasets().cards()
    assert names_of(cards["lits"]) == ["lits"]
    assert names_of(planted_card(cards["btcv"], reference="hu-deviation")) == ["btcv-planted", "btcv"]
    for name, card in cards.items():
        assert names_of(card)[0] == name
        assert card.wraps in (None, names_of(card)[-1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("photos", ()), "expected none or web"),
        (("volumes", ()), "name the data sets"),
        (("none", ("lits",)), "a level of pictures, volumes, masks"),
        (("masks", "lits"), "a tuple of names"),
        (("masks", (" ",)), "a tuple of names"),
        (("masks", ("a\x1b",)), "control characters"),
    ],
)
def test_descriptions_that_say_nothing_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        Pretraining(*values)


def test_cards_refuse_what_is_no_description():
    for values in ({"pretraining": "web"}, {"labels_elsewhere": "lits"}, {"labels_elsewhere": ("",)}):
        with pytest.raises(ValueError, match=next(iter(values))):
            MethodCard(name="x", title="X", **values)


def test_backbones_are_known_by_their_weights():
    dino = ("vit_small_patch14_dinov2.lvd142m", "vit_base_patch16_dinov3.lvd1689m")
    assert [of_backbone(name, "pretrained").level for name in dino] == ["web", "web"]
    assert of_backbone(dino[0], "random") == NONE
    assert of_backbone(dino[0], "/weights/own.pth").level == "web"
    for name in ("resnet18.tv_in1k", "tf_efficientnet_lite0", "wide_resnet50_2.tv_in1k"):
        assert of_backbone(name, "imagenet") == IMAGENET
        assert IMAGENET.level == "none"


@pytest.mark.parametrize("name", [n for n in registry.runnable().names() if registry.runnable().entry(n).built_in])
def test_the_card_of_a_built_in_method_says_what_its_published_weights_are(name):
    cls = registry.runnable().get(name)
    method = cls(resolve(cls.Config, "paper"))
    assert method.pretraining == cls.card.pretraining
    assert cls.card.pretraining.level == ("web" if "dino" in getattr(method.config, "backbone", "") else "none")
    assert cls.card.pretraining.level in LEVELS
    if hasattr(method.config, "weights"):
        assert cls(resolve(cls.Config, "paper", settings={"weights": "random"})).pretraining == NONE
    assert not cls.card.labels_elsewhere
