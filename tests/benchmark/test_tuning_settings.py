"""Equal budgets of trials on planted lesions: who is asked what, how a stopped search goes on, and what comes out."""

import itertools
import os
from statistics import fmean
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench import cli
from uasbench.benchmark.catalogue.registry import runnable
from uasbench.benchmark.commands import tuning
from uasbench.benchmark.commands.tuning import Search, Trial, tune
from uasbench.benchmark.experiments import load
from uasbench.benchmark.planning.options import validated
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.records import CellKey, write_json
from uasbench.common.errors import UasbenchError
from uasbench.methods.config import by_stage, resolve
from uasbench.reports import tuned


@pytest.fixture
def bench(monkeypatch, tmp_path, small_run):
    """A search whose rows are not run: each reaches the learning rate it was given, trained in 8 s and scored in 2."""
    made = SimpleNamespace(rounds=[], broken=set(), stop_after=None, meanwhile=lambda: None)
    template = small_run.records()[0]

    def record(key, name, settings):
        fields, _ = by_stage(resolve(runnable().get(name).Config, "smoke", "liver", settings))
        ids = template.ids.model_copy(update={"fit": f"{name} {key.seed} {fields}"})
        values = [
            v.model_copy(update={"value": float(settings.get("lr", 0))}) if v.metric == tuning.OBJECTIVE else v
            for v in template.per_case
        ]
        cost = template.cost.model_copy(update={"fit_s": 8.0, "score_s": 2.0, "threads": 1})
        return template.model_copy(update={"cell": key, "ids": ids, "per_case": values, "cost": cost})

    def run(options, console):
        if made.stop_after == len(made.rounds):
            raise KeyboardInterrupt
        rows = {f"{v.method}@{v.label}": (v.method, v.settings) for v in options.variants}
        rows |= {name: (name, {}) for name in options.methods.split(",")}
        folder = RunFolder(options.folder())
        for row, (name, settings) in rows.items():
            for seed in [0] if runnable().card(name).deterministic else options.seeds:
                key = CellKey(method=row, dataset=options.datasets[0], train=options.train, seed=seed)
                if row not in made.broken:
                    write_json(folder.record_path(key), record(key, name, settings))
        made.meanwhile()
        made.rounds.append(rows)
        made.options = options
        return folder, 0

    monkeypatch.setattr(tuning, "run", run)

    def search(methods="ae,draem", trials=6, minutes=None, seeds=1):
        options = validated(methods=methods, datasets="lits", profile="smoke", seeds=seeds, phantom=True)
        return {one.method: one for one in tune(options, made.out, trials, minutes)[1]}

    made.search, made.out = search, tmp_path / "out"
    return made


def test_every_method_gets_the_same_trials_and_the_best_is_the_best(bench):
    found = bench.search()
    assert {name: len(one.trials) for name, one in found.items()} == {"ae": 6, "draem": 6}
    for one in found.values():
        assert one.best.value == max(t.value for t in one.trials) == one.best.settings["lr"]
        assert one.default == 0
    assert (bench.options.datasets, bench.options.train) == (["btcv-planted"], "btcv")
    plan = load(str(bench.out / tuning.PLAN))
    assert (plan.dataset, plan.train, plan.methods) == ("lits", "btcv", "ae,draem")
    assert {v.method: v.settings for v in plan.variants} == {name: one.best.settings for name, one in found.items()}


def test_a_stopped_search_ends_as_one_that_was_not(bench, tmp_path):
    whole = bench.search("ae", 10)
    bench.out = tmp_path / "again"
    studies = {t.number: t.settings for t in whole["ae"].trials}
    bench.rounds.clear()
    bench.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        bench.search("ae", 10)  # four trials are told, four are open
    bench.stop_after = None
    again = bench.search("ae", 10)
    assert {t.number: t.settings for t in again["ae"].trials} == studies
    assert len(again["ae"].trials) == 10


def test_more_trials_go_on_where_fewer_ended(bench):
    first = bench.search("ae", 2)["ae"].trials
    assert bench.search("ae", 5)["ae"].trials[:2] == first


def test_minutes_end_the_trials_of_a_method(bench):
    found = bench.search("ae", trials=40, minutes=1.0)  # ten seconds each, four between two looks
    assert len(found["ae"].trials) == 8


def test_trials_that_share_a_training_pay_for_it_once(bench):
    trials = bench.search("anomaly-dino", trials=40, minutes=0.4)["anomaly-dino"].trials
    assert [t.core_s for t in trials] == [10, *[2] * 7]


def test_a_method_without_a_seed_reaches_what_its_one_record_says(bench):
    found = bench.search("anomaly-dino,ae", 2, seeds="4,5")
    assert [t.value is None for one in found.values() for t in one.trials] == [False] * 4
    assert [t.core_s for t in found["ae"].trials] == [20, 20]


def test_a_trial_that_failed_counts_and_is_not_chosen(bench):
    bench.broken.add("ae@t0")
    found = bench.search("ae", 4)["ae"]
    assert [t.value is None for t in found.trials] == [True, False, False, False]
    assert found.best.number != 0
    (row,) = tuned.frames([found])["methods"].to_dict("records")
    assert (row["trials"], row["failed"]) == (4, 1)


def test_whoever_has_nothing_to_tune_says_so(bench, monkeypatch):
    from uasbench.methods.reconstruction.dae import DAE
    from uasbench.methods.reconstruction.vae import VAE

    monkeypatch.setattr(DAE, "tuned", {})
    monkeypatch.setattr(VAE, "search_space", lambda self, trial: {"no_such": 1})
    found = bench.search("ae,dae,vae,hu-opened", 1)
    assert found["hu-opened"].reason == "learns nothing"
    assert found["dae"].reason == "offers no setting to tune"
    assert "no_such" in found["vae"].reason
    assert len(found["ae"].trials) == 1
    with pytest.raises(UasbenchError, match="hu-opened: learns nothing"):
        bench.search("hu-opened")


def test_a_second_search_in_the_folder_is_refused_at_any_time(bench):
    def another():
        before = (bench.out / tuning.STUDIES).read_bytes()
        with pytest.raises(UasbenchError, match=rf"another bench chooses settings in {bench.out} \(pid {os.getpid()}"):
            bench.search("ae", 9)
        assert (bench.out / tuning.STUDIES).read_bytes() == before
        refused.append(len(bench.rounds))

    refused = []
    bench.meanwhile = another
    assert len(bench.search("ae", 6)["ae"].trials) == 6
    assert refused == [0, 1, 2]


def test_a_healthy_set_without_planted_lesions_is_refused(bench, monkeypatch):
    monkeypatch.setattr(tuning, "_on_planted", tuning._on_planted)
    options = validated(methods="ae", datasets="lits", profile="smoke", seeds=1, phantom=True)
    with pytest.raises(UasbenchError, match="elsewhere has no set with planted lesions"):
        tuning._on_planted(options, "elsewhere", bench.out)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_the_expected_best_is_that_of_all_draws(values):
    search = Search("m", trials=tuple(Trial("m", i, {}, v, 0.0) for i, v in enumerate(values)))
    for k, expected in enumerate(search.expected_best(), 1):
        assert expected == pytest.approx(fmean(map(max, itertools.product(values, repeat=k))), abs=1e-9)


@pytest.mark.slow
def test_the_command_searches_and_the_experiment_runs(root, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def bench(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.app([*map(str, arguments), "--data-root", str(root), "--cache", str(cache)])
        assert ended.value.code == 0
        return capsys.readouterr().out

    said = bench("tune", "ae", "hu-opened", "--dataset", "lits", "--profile", "smoke", "--trials", 2, "--out", "t")
    assert "learns nothing" in said
    trials = pd.read_csv(tmp_path / "t/trials.csv")
    assert trials["ap"].between(0, 1).all()
    assert len(trials) == 2
    assert (tmp_path / "t/expected_best.svg").stat().st_size > 1000
    assert "ae@tuned" in bench("reproduce", "t/tuned.yaml", "--seeds", 1, "--out", "r")
    gain = pd.read_csv(tmp_path / "r/tables/tuned.csv")
    assert set(gain["method"]) == {"ae"}
    assert (gain["n"] > 0).any()
