"""nnU-Net: settings, the skip without its package, the process it trains in, and a real training where it is there."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from uasbench.common.errors import DataError
from uasbench.methods.config import resolve
from uasbench.methods.context import FitContext, TrainingError
from uasbench.methods.supervised import nnunet
from uasbench.methods.supervised.nnunet import NNUNet, NNUNetConfig, NNUNetUnseen
from uasbench.methods.supervised.parts import nnunet_process
from uasbench.methods.supervised.parts.nnunet_layout import DATASET
from uasbench.methods.supervised.parts.nnunet_process import train_apart

PYTHON = sys.executable
JOB = SimpleNamespace(
    **vars(resolve(NNUNetConfig, "smoke", "liver", {"epochs": None})), limit=None, seed=5, device="cpu", threads=1
)


@pytest.fixture
def labelled(toy_case):
    return [toy_case(i, lesion=True) for i in range(3)]


def test_without_the_package_it_says_which_extra_to_install(monkeypatch):
    monkeypatch.setattr(nnunet, "find_spec", lambda name: None)
    assert "uasbench[nnunet]" in NNUNet().skip()
    monkeypatch.setattr(nnunet, "find_spec", lambda name: name)
    assert NNUNetUnseen().skip() is None


@pytest.mark.parametrize("limit", [None, 0])
def test_fit_hands_over_layout_split_and_seed_and_keeps_what_was_trained(labelled, monkeypatch, tmp_path, limit):
    seen = {}

    def stand_in(folder, job, on_epoch):
        seen["raw"] = sorted(p.name for p in (folder / "raw" / DATASET / "imagesTr").iterdir())
        seen["splits"] = json.loads((folder / "preprocessed" / DATASET / "splits_final.json").read_text())
        seen["job"], seen["folder"] = job, folder
        on_epoch({"done": 4, "total": 8, "train": 0.5, "training_patient": 0.25})
        tensors = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
        return {"plans": '{"a": 1}', "dataset": "{}", "weights": tensors, "mirror_axes": (0, 1)}

    monkeypatch.setattr(nnunet_process, "train_apart", stand_in)
    monkeypatch.setattr(NNUNet, "_network", lambda self: torch.nn.Linear(2, 1))
    method = NNUNet(resolve(NNUNetConfig, "smoke", "liver"))
    method.build()
    curve, progress = [], []
    context = FitContext(
        seed=3, max_updates=limit, on_log=lambda s, v: curve.append((s, v)), on_progress=lambda *p: progress.append(p)
    )
    method.fit(labelled, context)
    assert len(seen["raw"]) == 3
    (split,) = seen["splits"]
    assert split["train"] == [name.removesuffix("_0000.nii.gz") for name in seen["raw"]]
    assert (seen["job"].limit, seen["job"].seed, seen["job"].device) == (limit, context.seed_for("nnunet"), "cpu")
    assert not seen["folder"].exists()
    assert curve == [(3, {"loss": 0.5, "training_patient": 0.25})]
    assert progress == [(4, 8)]
    method.save(tmp_path / "state.pt")
    restored = NNUNet(method.config)
    restored.load(tmp_path / "state.pt")
    for kept in (method, restored):
        assert (kept.plans, kept.dataset, kept.mirror_axes, kept.updates) == ('{"a": 1}', "{}", (0, 1), 4)
        assert torch.equal(kept.net.weight, torch.ones(1, 2))
    with pytest.raises(DataError, match="no lesion"):
        method.fit([(case, np.zeros_like(lesion)) for case, lesion in labelled], context)


def stand_in_for_python(tmp_path, monkeypatch, body):
    script = tmp_path / "python"
    script.write_text(f"#!{PYTHON}\nimport json, os, sys, time\nfolder, out = sys.argv[3], int(sys.argv[4])\n{body}")
    script.chmod(0o755)
    monkeypatch.setattr(nnunet_process.sys, "executable", str(script))


def test_reports_and_environment_pass_between_the_processes(tmp_path, monkeypatch):
    body = """
assert json.load(open("job.json"))["seed"] == 5 and os.getcwd() == os.path.realpath(folder)
values = {k: v for k, v in os.environ.items() if k.startswith("nnUNet_")}
os.write(out, (json.dumps({"done": 2, "environment": values}) + "\\n").encode())
"""
    torch.save({"weights": {"w": torch.ones(2)}, "mirror_axes": (1,)}, tmp_path / "model.pt")
    stand_in_for_python(tmp_path, monkeypatch, body)
    reports = []
    before = dict(nnunet_process.os.environ)
    trained = train_apart(tmp_path, JOB, reports.append)
    assert trained["mirror_axes"] == (1,)
    assert torch.equal(trained["weights"]["w"], torch.ones(2))
    assert reports[0]["done"] == 2
    assert reports[0]["environment"] == {
        "nnUNet_raw": str(tmp_path / "raw"),
        "nnUNet_preprocessed": str(tmp_path / "preprocessed"),
        "nnUNet_results": str(tmp_path / "results"),
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "1",
    }
    assert dict(nnunet_process.os.environ) == before


FORKS = """
forked = os.fork()
if forked == 0:
    time.sleep(600)
os.write(out, (json.dumps({"pids": [os.getpid(), forked]}) + "\\n").encode())
"""


def all_end(pids, within=5.0):
    """Whether processes end in time; one that is dead and not yet reaped by its new parent has ended."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("last", "refusal", "said"),
    [
        ("time.sleep(600)", TrainingError("loss is nan"), "loss is nan"),
        ("time.sleep(600)", KeyboardInterrupt("stop"), "stop"),
        (
            "os.kill(os.getpid(), 9)",
            None,
            r"ended by signal 9 \(Killed\); memory may have run out; its output",
        ),
        ("os.kill(os.getpid(), 11)", None, r"stopped: ended by signal 11 \(Segmentation fault\); its output"),
        ("os._exit(3)", None, "stopped: exit status 3; its output"),
        ('os.write(out, b\'{"error": "ValueError: odd"}\\n\')\nsys.exit(1)', None, "nnU-Net stopped: ValueError: odd"),
    ],
)
def test_a_trainer_that_dies_or_is_refused_leaves_no_hanging_job_nor_children(
    tmp_path, monkeypatch, last, refusal, said
):
    """nnU-Net's augmenting processes are forked, hold its pipes open and never ask whether it lives."""
    stand_in_for_python(tmp_path, monkeypatch, f"{FORKS}{last}")
    pids = []

    def report(values):
        pids.extend(values["pids"])
        if refusal:
            raise refusal

    with pytest.raises(type(refusal) if refusal else TrainingError, match=said):
        train_apart(tmp_path, JOB, report)
    assert len(pids) == 2
    assert all_end(pids)


@pytest.mark.timeout(30)
def test_the_process_and_its_children_end_with_the_caller():
    body = f"""
import os, time
from {nnunet_process.__name__} import _end_with_caller
forked = os.fork()
if forked == 0:
    time.sleep(600)
print(forked, flush=True)
_end_with_caller()
"""
    command = [PYTHON, "-c", body]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        forked = int(process.stdout.readline())
        assert not all_end([process.pid, forked], within=0.2)
        process.stdin.close()
        assert process.wait(10) == -signal.SIGKILL
    assert all_end([forked])


class Trainer:
    """What the training loop of the package offers, without its work."""

    num_epochs, num_iterations_per_epoch, num_val_iterations_per_epoch, current_epoch = 4, 250, 50, 0
    disable_checkpointing = False

    def __init__(self):
        self.calls = []
        self.logger = self

    def get_value(self, name, step):
        return np.float32({"train_losses": -0.5, "val_losses": 0.5}[name])

    def initialize(self):
        self.calls.append("initialize")

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        self.calls.append("mirroring")

    def on_epoch_end(self):
        self.current_epoch += 1

    def run_training(self):
        for _ in range(self.num_epochs):
            self.calls.append(self.num_iterations_per_epoch)
            self.on_epoch_end()


@pytest.mark.parametrize(
    ("epochs", "limit", "calls"),
    [
        (None, None, [10] * 4),
        (6, None, [10] * 6),
        (None, 25, [10] * 2),
        (1, 25, [10]),
        (None, 3, [3]),
        (None, 0, ["initialize", "mirroring"]),
    ],
)
def test_epochs_and_budget_set_the_length_of_the_training(epochs, limit, calls):
    trainer, reports = Trainer(), []
    job = SimpleNamespace(**{**vars(JOB), "iterations": 10, "epochs": epochs, "limit": limit})
    nnunet_process._run(trainer, job, reports.append)
    assert trainer.calls == calls
    assert trainer.disable_checkpointing
    done = np.cumsum([c for c in calls if isinstance(c, int)])
    assert reports == [{"done": d, "total": done[-1], "train": -0.5, "training_patient": 0.5} for d in done]


@pytest.mark.slow
def test_the_real_package_trains_and_predicts_inside_the_organ(labelled):
    pytest.importorskip("nnunetv2", reason="needs the extra 'nnunet'")
    method, steps = NNUNet(resolve(NNUNetConfig, "smoke", "liver")), []
    method.build()
    method.fit(labelled, FitContext(seed=0, on_log=lambda step, _: steps.append(step)))
    assert steps == [1]
    case, _ = labelled[0]
    map_ = method.score(case)
    assert not map_[~case.roi].any()
    assert 0 < map_[case.roi].min() < map_.max() < 1


@pytest.mark.slow
def test_the_real_trainer_has_the_settings_that_the_card_prints(labelled, tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2", reason="needs the extra 'nnunet'")
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    method = NNUNet(resolve(NNUNetConfig, "smoke", "liver"))
    method.build()
    method.fit(labelled, FitContext(seed=0, max_updates=0))
    paper = resolve(NNUNetConfig, "paper", "liver")
    assert paper.trainer == nnUNetTrainer.__name__
    plans = json.loads(method.plans) | {"continue_training": False}
    prepared = tmp_path / "preprocessed" / DATASET / "nnUNetPlans_2d"
    prepared.mkdir(parents=True)
    (prepared / "case.b2nd").touch()  # the trainer asks for the format of the data, not for their content
    trainer = nnUNetTrainer(plans, "2d", 0, json.loads(method.dataset), torch.device("cpu"))
    trainer.initialize()
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (1000, paper.iterations)
    assert trainer.num_val_iterations_per_epoch == paper.validation_iterations
    assert isinstance(trainer.optimizer, torch.optim.SGD)
    settings = trainer.optimizer.param_groups[0]
    assert [settings[key] for key in ("lr", "momentum", "nesterov", "weight_decay")] == [0.01, 0.99, True, 3e-5]
    assert isinstance(trainer.lr_scheduler, PolyLRScheduler)
    assert isinstance(trainer.loss, DeepSupervisionWrapper)
    assert isinstance(trainer.loss.loss, DC_and_CE_loss)
    assert (trainer.loss.loss.weight_dice, trainer.loss.loss.weight_ce) == (1, 1)
