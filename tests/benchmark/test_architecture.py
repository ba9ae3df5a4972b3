"""The table of architecture figures in ``docs/architecture.md``, and the cards that it is made from."""

from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner
from uasbench.benchmark.catalogue import registry, showing
from uasbench.cli import app
from uasbench.methods.card import FIGURE_NAMES, MethodCard, same
from uasbench.methods.config import resolve

EXPONENTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
LONGEST = 60
DOCS = Path(__file__).parents[2] / "docs" / "architecture.md"


@cache
def table() -> str:
    return showing.architecture_table()


def rows() -> dict[str, dict[str, str]]:
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table().splitlines()]
    return {line[0].strip("`"): dict(zip(head, line, strict=True)) for line in lines}


def learned() -> dict[str, MethodCard]:
    known = registry.runnable()
    return {n: card for n, card in known.cards().items() if known.entry(n).built_in and not card.trivial}


def scientific(rate: float) -> str:
    """A rate as the cards print it: 3·10⁻⁴."""
    digit, exponent = f"{rate:e}".split("e")
    power = f"10{str(int(exponent)).translate(EXPONENTS)}"
    return power if float(digit) == 1 else f"{float(digit):g}·{power}"


@pytest.mark.skipif(not DOCS.exists(), reason="an installed package has no docs folder")
def test_the_table_in_the_docs_is_the_one_made_from_the_cards():
    shown = DOCS.read_text(encoding="utf-8").partition("\n\n|")[2]
    assert f"|{shown}" == f"{table()}\n", "renew it with the output of 'bench show --architecture'"


@pytest.mark.parametrize("name", sorted(learned()))
def test_every_learned_method_has_its_figures(name):
    figures = learned()[name].figures
    assert tuple(what for what, _, _ in figures) == FIGURE_NAMES
    for what, reference, here in figures:
        assert bool(here) == (what != "parameters")
        assert reference
        assert max(len(reference), len(here)) <= LONGEST


@pytest.mark.parametrize("name", sorted(learned()))
def test_the_figures_are_those_of_the_paper_profile(name):
    here = {what: phrase for what, _, phrase in learned()[name].figures}
    config = vars(resolve(registry.runnable().get(name).Config))
    crop = config.get("crop")
    side = config.get("patch") or (crop[0] if isinstance(crop, tuple) else crop) or config.get("size")
    assert side is None or str(side) in here["input"]
    if here["optimiser"] != "none" and "batch" in config:
        rate = config["lr"]
        assert f"batch {config['batch']}" in here["optimiser"]
        assert f" {scientific(rate)}" in here["optimiser"] or f" {rate:g}" in here["optimiser"]
    if isinstance(config.get("updates"), int):
        assert f"{config['updates']:,}" in here["length"]
    elif isinstance(config.get("epochs"), int):
        total = config["epochs"] * config.get("epoch_updates", 0)  # of dae, whose epoch is a number of updates
        assert f"{config['epochs']:,} epochs" in here["length"] or f"{total:,} updates" in here["length"]
    for other in ("encoder_updates", "segmentation_epochs", "restoration_epochs", "tuning_updates"):
        if isinstance(config.get(other), int):
            assert f"{config[other]:,}" in here["length"]
    for key in ("momentum", "decay", "weight_decay"):
        if config.get(key):
            assert f"{config[key]:g}" in here["optimiser"] or scientific(config[key]) in here["optimiser"]


def test_figures_are_counted_in_the_networks_of_the_paper_profile_and_printed_once():
    found = rows()
    assert set(found) == set(learned())
    resnet18, head = 11_176_512, 512 * 512 + 2 * 512 + 512 * 128 + 2 * 128 + 128 * 3 + 3
    stage4 = 8_393_728
    assert found["stfpm"]["parameters"] == f"{2 * (resnet18 - stage4):,}"
    assert found["padim"]["parameters"] == f"{resnet18 - stage4:,}"
    assert abs(int(found["cutpaste"]["parameters"].replace(",", "")) - resnet18 - head) < 2000
    assert found["normnet"]["parameters"] == f"{found['synthetic-tumors']['parameters']} × 5"
    assert found["nnunet"]["parameters"] == "planned from the data"
    assert found["vae"]["parameters"] == found["bayesian-vae"]["parameters"]
    assert found["dae"]["length"] == "67,200 updates"
    assert found["draem"]["length"] == "700 epochs → 100 epochs (budget=released: 700)"
    assert same("length", "1 epoch") == ("length", "1 epoch", "1 epoch")


def test_show_prints_the_figures_of_a_method_or_the_table_of_all(monkeypatch):
    console = Console(width=200)
    with console.capture() as captured:
        for part in showing.show("constrained-vae"):
            console.print(part)
    assert "mean L2 + ρ · mean L2 of the codes, ρ 1" in captured.get()
    assert "n/p" not in captured.get().split("parameters, paper")[1]
    monkeypatch.setattr(showing, "architecture_table", lambda: "| the table |")
    assert CliRunner().invoke(app, ["show", "--architecture"]).output == "| the table |\n"
    assert CliRunner().invoke(app, ["show"]).exit_code != 0
    assert CliRunner().invoke(app, ["show", "ae", "--architecture"]).exit_code != 0
