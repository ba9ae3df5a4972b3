"""Names, cards and classes from installed packages: suggestions, collisions, wildcards, broken plug-ins, the index."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from uasbench import Method, MethodCard
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.catalogue.index import CardIndex
from uasbench.benchmark.catalogue.registry import Registry, RegistryError

GOOD = """
from uasbench import Method, MethodCard

class Good(Method):
    card = MethodCard(name="{name}", title="A plug-in", slice_score=("meanpool", 3), anatomy=("liver",))
"""


def plugin(name: str) -> str:
    return GOOD.format(name=name)


def test_a_plugin_is_listed_beside_the_built_ins_and_imported_at_first_use(install):
    install("pkg-good", {"good_plugin.py": plugin("good")}, methods={"good": "good_plugin:Good"})
    methods = registry.methods()
    assert {"good", "random", "hu-deviation"} <= set(methods.names())
    assert "good_plugin" not in sys.modules
    cls = methods.get("good")
    assert issubclass(cls, Method)
    assert cls is methods.get("good")
    assert methods.card("good").slice_score == ("meanpool", 3)
    entry = methods.entry("good")
    assert str(entry) == "good_plugin:Good from pkg-good 1.0"
    assert methods.entry("random").built_in > entry.built_in
    trivial = [card.trivial for card in methods.cards().values()]
    assert trivial == sorted(trivial, reverse=True)


def test_a_wrong_name_gets_a_suggestion_and_a_hopeless_one_lists_what_is_known():
    for wrong, right in (("hu-deviaton", "hu-deviation"), ("HU_Opened", "hu-opened"), ("randm", "random")):
        with pytest.raises(RegistryError, match=f"unknown method '{wrong}'; did you mean .*'{right}'"):
            registry.methods().select(wrong)
        with pytest.raises(RegistryError, match=right):
            registry.methods().get(wrong)
    with pytest.raises(RegistryError, match=r"unknown data set 'zzzz'; known: .*btcv.*lits"):
        registry.datasets().get("zzzz")


def test_select_takes_names_lists_wildcards_and_all():
    methods = registry.methods()
    assert methods.select("random,hu-opened") == methods.select(["hu-opened", " random "])
    assert methods.select("roi-are*") == ["roi-area"]
    assert set(methods.select("hu-*")) == {"hu-deviation", "hu-opened", "hu-threshold"}
    assert methods.select("hu-*,hu-opened") == methods.select("hu-*")
    assert methods.select("all") == list(methods.cards())
    with pytest.raises(RegistryError, match="unknown method 'vqx\\*'"):
        methods.select("random,vqx*")
    with pytest.raises(RegistryError, match="no method given"):
        methods.select(" , ")


BAD = plugin("{name}").replace("Good", "Bad")
BROKEN = {
    "raises": ("raise OSError('no licence file')", "OSError: no licence file .*raises_plugin.py, line 1"),
    "needs": ("import package_that_nobody_has", "No module named 'package_that_nobody_has'"),
    "syntax": ("def f(:", "SyntaxError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "number": ("Bad = 3", "is not a subclass of uasbench.Method"),
    "plain": ("class Bad: pass", "is not a subclass of uasbench.Method"),
    "bare": ("from uasbench import Method\nclass Bad(Method): pass", "has no card; add 'card = MethodCard"),
    "named": (BAD.format(name="other"), "its card is named 'other' but the entry point 'named'"),
    "labels": (
        BAD.format(name="labels").replace("title=", "uses='labels', title="),
        "register it under 'uasbench.toplines'",
    ),
    "empty": ("x = 1", "has no attribute 'Bad'"),
}


def test_broken_plugins_are_listed_with_their_reason_and_break_nothing_else(install):
    files = {f"{name}_plugin.py": text for name, (text, _) in BROKEN.items()}
    install("pkg-bad", files, methods={name: f"{name}_plugin:Bad" for name in BROKEN})
    methods = registry.methods()
    for name, (_, reason) in BROKEN.items():
        assert name in methods.names()
        assert "\n" not in methods.broken()[name]
        with pytest.raises(RegistryError, match=reason):
            methods.get(name)
        for wanted in (f"random,{name}", f"{name[:-1]}*{name[-1]}"):
            with pytest.raises(RegistryError, match=name):
                methods.select(wanted)
    assert "random" in methods.select("all")
    assert not BROKEN.keys() & set(methods.select("all"))
    assert methods.get("random").card.name == "random"


def test_two_packages_with_one_name_collide_loudly(install):
    install("pkg-one", {"plugin_one.py": plugin("twin")}, methods={"twin": "plugin_one:Good"})
    install("pkg-two", {"plugin_two.py": plugin("twin")}, methods={"twin": "plugin_two:Good"})
    methods = registry.methods()
    both = r"'twin' is registered twice: .*plugin_(one|two):Good from pkg-\1 .*plugin_(one|two):Good from pkg-\2"
    for call in (methods.get, methods.card, methods.select, methods.entry):
        with pytest.raises(RegistryError, match=both):
            call("twin")
    with pytest.raises(RegistryError, match=both):
        methods.select("all")
    assert "twin" in methods.broken()
    assert methods.select("random") == ["random"]
    install("pkg-two", {}, methods={"twin": "plugin_one : Good"})  # the same class twice is fine
    assert registry.methods().get("twin").card.name == "twin"


def test_toplines_are_a_group_of_their_own(install):
    text = plugin("upper").replace("title=", "uses='labels', supervision='full', title=")
    install("pkg-top", {"top_plugin.py": text}, toplines={"upper": "top_plugin:Good"})
    assert "upper" in registry.toplines().names()
    assert registry.toplines().get("upper").card.uses == "labels"
    assert "upper" not in registry.methods().select("all")


def test_no_entry_points_means_not_installed_and_a_class_needs_none():
    empty: Registry = Registry("uasbench.methods", "method", [])
    with pytest.raises(RegistryError, match=r"not installed.*pip install -e"):
        empty.names()

    class Loose(Method):
        card = MethodCard(name="loose", title="Loose")

    assert registry.check_class(Loose) is Loose
    with pytest.raises(RegistryError, match="not a subclass"):
        registry.check_class(int)


# the card index


def fresh(folder: Path, target: str = "good_plugin:Good") -> Registry:
    points = [EntryPoint(name="good", value=target, group="uasbench.methods")]
    return Registry("uasbench.methods", "method", points, CardIndex(folder / "cards.json"))


def remembered(folder: Path, target: str = "good_plugin:Good") -> MethodCard:
    known = fresh(folder, target)
    card = known.cards()["good"]
    known.write_index()
    return card


def test_a_known_card_is_read_without_an_import(install, tmp_path):
    site = install("pkg-good", {"good_plugin.py": plugin("good")})
    first = remembered(tmp_path)
    del sys.modules["good_plugin"]
    assert fresh(tmp_path).cards()["good"] == first
    assert fresh(tmp_path).card("good") == first
    assert "good_plugin" not in sys.modules

    (site / "good_plugin.py").write_text(plugin("good").replace("A plug-in", "Another title"))
    assert fresh(tmp_path).cards()["good"].title == "Another title"
    assert "good_plugin" in sys.modules


def test_a_card_made_in_another_file_follows_that_file(install, tmp_path):
    files = {
        "cardpkg/__init__.py": "",
        "cardpkg/cards.py": "from uasbench import MethodCard\nCARD = MethodCard(name='good', title='One')\n",
        "cardpkg/m.py": "from uasbench import Method\nfrom .cards import CARD\nclass Good(Method):\n    card = CARD\n",
    }
    site = install("pkg-card", files)

    def title() -> str:
        for name in [n for n in sys.modules if n.startswith("cardpkg")]:
            del sys.modules[name]
        return remembered(tmp_path, "cardpkg.m:Good").title

    assert title() == "One"
    (site / "cardpkg/cards.py").write_text(files["cardpkg/cards.py"].replace("One", "Two"))
    assert title() == "Two"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1, "entries": 3}', "\x00\xff", None, 3, {"card": {}}])
def test_a_damaged_index_is_made_again(install, tmp_path, damage):
    install("pkg-good", {"good_plugin.py": plugin("good")})
    path = tmp_path / "cards.json"
    remembered(tmp_path)
    if damage is None:
        damage = path.read_text().replace('"name": "good"', '"name": "Not A Name", "nonsense": 1')
    if not isinstance(damage, str):
        stored = json.loads(path.read_text())
        damage = json.dumps(stored | {"entries": dict.fromkeys(stored["entries"], damage)})
    path.write_text(damage, encoding="latin-1")
    assert fresh(tmp_path).outline("good").dims == "native"
    assert remembered(tmp_path).title == "A plug-in"
    (entry,) = json.loads(path.read_text())["entries"].values()
    assert entry["card"]["name"] == "good"


def test_an_index_that_cannot_be_written_costs_nothing_else(install, tmp_path):
    install("pkg-good", {"good_plugin.py": plugin("good")})
    (tmp_path / "file").write_text("")
    assert remembered(tmp_path / "file").name == "good"
