import pytest
from uasbench.benchmark import device
from uasbench.benchmark.device import DeviceError, resolve_precision
from uasbench.benchmark.planning.options import (
    OptionError,
    RunOptions,
    parse_queue,
    parse_seeds,
    parse_settings,
    parse_variant,
    validated,
)
from uasbench.benchmark.planning.where import AT_ONCE, where
from uasbench.common.errors import UasbenchError


@pytest.mark.parametrize(
    ("parse", "texts", "message"),
    [
        (parse_seeds, ("", "0", "x", "1,1", "-1,2", ",", "1.5", "1001", "9999999", "9" * 5000), "--seeds"),
        (lambda text: parse_settings([text]), ("ae.lr", "lr=1", "=1", ".lr=1", "ae.=1"), r"METHOD\.KEY=VALUE"),
        (lambda text: parse_queue([text]), ("partition", "=x", "a b=c", "nowhere.toml"), "--queue"),
        (parse_variant, ("tp", "tp:", "tp:lr=1", ":ae.lr=1", "a b:ae.lr=1", "x:ae.lr=1,dae.lr=2"), "LABEL:METHOD"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse, texts, message):
    for text in texts:
        with pytest.raises(OptionError, match=message):
            parse(text)


def test_settings_of_a_queue_come_from_files_and_words_of_which_the_last_counts(tmp_path):
    file = tmp_path / "queue.toml"
    file.write_text('partition = "cpu"\nsetup = ["a", "b"]\ntime = 90\n')
    queue = validated(datasets=["lits"], queue=[str(file), "partition=gpu", "submit=bsub -q=x {command}"]).queue
    assert queue == {"partition": "gpu", "setup": ["a", "b"], "time": 90, "submit": "bsub -q=x {command}"}
    file.write_text("partition =")
    with pytest.raises(OptionError, match=r"queue\.toml"):
        parse_queue([str(file)])


def test_stages_elsewhere_need_no_gpu_here_and_are_as_many_as_a_queue_takes(monkeypatch):
    monkeypatch.setattr(device, "gpu_count", lambda: 0)
    with pytest.raises(DeviceError, match="no CUDA device"):
        where(validated(datasets=["lits"], device="cuda"))
    there = {"datasets": ["lits"], "executor": "slurm"}
    found = where(validated(**there, device="cuda"))
    assert (found.numerics.device, found.numerics.precision, found.workers) == ("cuda", "bf16", AT_ONCE)
    assert where(validated(**there, workers=7)).workers == 7
    for wrong, message in (({"workers": "pack"}, "--workers pack"), ({"queue": {"x": "1"}}, "--queue x: there is no")):
        with pytest.raises(UasbenchError, match=message):
            where(validated(**there, **wrong))
    with pytest.raises(UasbenchError, match="this executor has no settings"):
        where(validated(datasets=["lits"], queue={"partition": "gpu"}))


def test_thousands_of_seeds_are_looked_through_once():
    assert len(validated(datasets=["lits"], seeds=range(20_000)).seeds) == 20_000
    with pytest.raises(OptionError, match="7 named twice"):
        validated(datasets=["lits"], seeds=[*range(20_000), 7])


def test_half_precision_is_for_gpus():
    with pytest.raises(DeviceError, match="use fp32"):
        resolve_precision("bf16", "cpu")
    assert [resolve_precision("auto", device) for device in ("cpu", "cuda")] == ["fp32", "bf16"]


def test_a_variant_takes_values_with_commas():
    variant = parse_variant("wide:ae.window=-300,300,size=64")
    assert (variant.label, variant.method) == ("wide", "ae")
    assert variant.settings == {"window": "-300,300", "size": "64"}


def test_a_wrong_value_names_its_option():
    for name, value in {
        "profile": "fast",
        "trials": 41,
        "workers": "many",
        "threads": 0,
        "calibration": "some",
    }.items():
        with pytest.raises(OptionError, match=f"--{name} {value!r}"):
            validated(datasets=["lits"], **{name: value})


def test_options_take_what_users_type_and_what_programs_hold():
    typed = validated(methods="ae,dae", datasets="lits, other", workers="auto", seeds="2", settings=["ae.lr=1"],
                      variants=["x:ae.lr=2"])  # fmt: skip
    held = validated(methods=["ae", "dae"], datasets=["lits", "other"], workers=None, seeds=(0, 1),
                     settings={"ae": {"lr": "1"}}, variants=[parse_variant("x:ae.lr=2")])  # fmt: skip
    assert typed == held


def test_the_same_command_gives_the_same_folder_and_methods_and_seeds_extend_it():
    def folder(**options):
        return RunOptions(datasets=["lits"], profile="quick", **options).folder()

    assert folder() == folder(methods="ae", seeds=[7])
    for other in (
        {"settings": {"ae": {"lr": "1"}}},
        {"phantom": True},
        {"exclude": ["lits:volume-3"]},
        {"only": ["lits:volume-3"]},
    ):
        assert folder() != folder(**other)
