"""Which methods carry a mark, and where: a mark excuses a method from the learning tests, so it is set on purpose."""

from __future__ import annotations

from uasbench.benchmark.catalogue import registry


def marked(field: str) -> dict[str, set[str]]:
    known = registry.runnable()
    cards = (known.card(name) for name in known.names() if known.entry(name).built_in)
    return {card.name: set(getattr(card, field)) for card in cards if getattr(card, field)}


def test_only_these_are_near_chance_in_the_literature():
    both = {"liver", "lung"}
    assert marked("near_chance") == {"kl-grad": both, "kl-grad-combi": both, "vae-restoration": both}


def test_only_these_do_not_learn_in_their_quick_profile():
    lung = ["ae", "bayesian-vae", "constrained-vae", "cutpaste", "fpi", "gmvae", "padim", "reverse-distillation"]
    lung += ["vae", "vae-original", "vae-spatial"]
    both = ["asc-net", "asc-net-post"]
    assert marked("undertrained") == {name: {"lung"} for name in lung} | {name: {"liver", "lung"} for name in both}
