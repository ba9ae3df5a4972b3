"""Trainings with compiled networks: their bits, what their records say, and what happens where nothing compiles."""

import json
import os
import textwrap
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from uasbench.benchmark.planning import ids
from uasbench.benchmark.planning.options import RunOptions
from uasbench.benchmark.stages import compiling, drive, fit
from uasbench.benchmark.stages.apart import Here
from uasbench.benchmark.stages.fit import FitTask, MethodSpec
from uasbench.benchmark.stages.task import Numerics
from uasbench.common.errors import DataError
from uasbench.methods.config import resolve
from uasbench.methods.context import LoopOverError, TrainingError
from uasbench.methods.reconstruction.ae import AE

EAGER = Numerics(device="cpu", threads=1, precision="fp32")
COMPILED = EAGER.model_copy(update={"compiled": True})
METHODS = """
import torch
from uasbench import Method, MethodCard
from uasbench.methods.training import make_optimiser, run_updates, update

class Small(Method):
    card = MethodCard(name="small", title="Small", year=2026, supervision="none")

    def build(self):
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def loss(self, x):
        return self.net(x).square().mean()

    def fit(self, healthy, ctx):
        optimiser, draws = make_optimiser(ctx, torch.optim.SGD, self.net.parameters(), lr=0.1), ctx.generator("x")
        step = lambda _: {"l2": update(optimiser, self.loss(torch.rand(4, 8, generator=draws)))}
        run_updates(ctx, 8, step, watch=lambda: float(self.net(torch.ones(5, 8)).detach().mean()))

class Parts(Small):
    def loss(self, x):
        return self.net[2](self.net[0](x)).square().mean()

class Penalised(Small):
    def loss(self, x):
        x.requires_grad_()
        slope, = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)
        return slope.square().sum()

class OwnLoop(Small):
    def fit(self, healthy, ctx):
        update(torch.optim.SGD(self.net.parameters()), self.loss(torch.ones(4, 8)))

class Late(Small):
    def loss(self, x):
        self.late = self.net[2]
        self.another = getattr(self, "another", torch.nn.Identity())
        return super().loss(self.another(x))
"""


@pytest.fixture(scope="module")
def compiled_code(tmp_path_factory):
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture
def train(tmp_path, monkeypatch, compiled_code):
    """Return ``train(name, folder, numerics, killed_at)``: the folder of a fit of one of the methods above."""
    (tmp_path / "compilable.py").write_text(textwrap.dedent(METHODS))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled_code))
    monkeypatch.setattr(fit, "training_scans", lambda *_: (None, None))
    monkeypatch.setattr(fit, "is_own", lambda target: True)
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0)

    def call(name: str, folder: str, numerics: Numerics = COMPILED, killed_at: int = 0) -> Path:
        def progress(done: int, _: int) -> None:
            if done == killed_at:
                raise KeyboardInterrupt

        spec = MethodSpec(target=f"compilable:{name}", profile="smoke", anatomy="liver", settings={})
        task = FitTask(id=folder, method=spec, seed=0, numerics=numerics, out=tmp_path / folder)
        with suppress(KeyboardInterrupt):
            fit.run(task, Here(progress))
        return task.out

    return call


def weights(folder: Path) -> list[torch.Tensor]:
    return list(torch.load(folder / "last.pt")["net"][1].values())


def about(folder: Path) -> dict:
    return json.loads((folder / "fit.json").read_text())


def same(one: Path, other: Path) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_compiled_trainings_have_the_same_bits_again_and_after_a_kill_and_draw_what_others_draw(train):
    first, again = train("Small", "first"), train("Small", "again")
    assert not train("Small", "killed", killed_at=5).exists()
    assert same(first, again)
    assert same(first, train("Small", "killed"))
    for compiled, plain in zip(weights(first), weights(train("Small", "plain", EAGER)), strict=True):
        torch.testing.assert_close(compiled, plain)


def test_a_fit_says_what_was_compiled_and_watching_compiles_nothing(train, capsys):
    folder = train("Small", "small")
    said = about(folder)
    assert (said["compiled"]["graphs"], said["compiled"]["eager_frames"], said["compiled"]["eager"]) == (1, 0, [])
    assert said["compiled"]["seconds"] > 0
    assert said["provenance"] == {"compiled": "graphs: 1"}
    assert "compiled: graphs: 1" in capsys.readouterr().out
    assert about(train("Parts", "parts"))["compiled"]["graphs"] == 2
    assert "compiled" not in about(train("Small", "plain", EAGER))


def test_a_resumed_fit_still_says_what_was_compiled_before(train):
    for killed_at, graphs in ((5, 2), (8, 1)):  # nothing is left to do after the eighth update
        train("Small", f"killed-{killed_at}", killed_at=killed_at)
        said = about(train("Small", f"killed-{killed_at}"))
        assert said["provenance"] == {"compiled": f"graphs: {graphs}, resumptions: 1"}
        assert said["compiled"]["eager"] == []
        assert said["compiled"]["seconds"] > 0


def test_what_only_the_compiler_refuses_begins_again_without_it(train, capsys):
    folder, plain = train("Penalised", "penalised"), train("Penalised", "plain", EAGER)
    assert same(folder, plain)
    assert (folder / "curves.csv").read_text() == (plain / "curves.csv").read_text()
    assert "double backward" in about(folder)["provenance"]["compiled"]
    assert "begins again, without compiling: RuntimeError: torch.compile" in capsys.readouterr().out
    assert about(folder)["compiled"]["aborted_s"] > 0
    train("Penalised", "killed", killed_at=5)
    assert same(train("Penalised", "killed"), plain)
    assert "double backward" in about(folder.parent / "killed")["provenance"]["compiled"]
    assert about(folder.parent / "killed")["compiled"]["aborted_s"] > 0
    assert not list(folder.glob("resume*"))


def test_without_a_compiler_networks_run_as_they_are_and_the_record_says_why(train, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "empty"))
    with torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)}):
        folder = train("Small", "small")
    assert same(folder, train("Small", "plain", EAGER))
    said = about(folder)["provenance"]["compiled"]
    assert said.startswith("nothing (")
    assert "No working C++ compiler" in said
    monkeypatch.setattr(compiling, "missing", lambda: "PyTorch is too old")
    assert about(train("Small", "old"))["provenance"]["compiled"] == "nothing (PyTorch is too old)"


def test_a_frame_that_cannot_be_compiled_runs_as_it_is_and_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    method = drive.construct(AE, resolve(AE.Config, "smoke", "liver"), seed=0, device="cpu", compiled=True)
    x = torch.rand(1, 1, 32, 32)
    with torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)}), torch.no_grad():
        compiled = method.net(x)
        with compiling.beside_updates(compiled=True):
            assert torch.equal(compiled, method.net(x))
    found = compiling.outcome(method)
    assert found["eager_frames"] > 0
    assert "No working C++ compiler" in found["eager"][0]


def test_what_was_not_compiled_is_named(train):
    assert about(train("OwnLoop", "own"))["provenance"]["compiled"] == (
        "nothing (no update of run_updates called a network)"
    )
    assert about(train("Late", "late"))["compiled"]["eager"] == ["another was made after the others"]


def test_code_that_is_not_shared_goes_with_the_fit(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/shared")
    with compiling.cache(shared=True):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/shared"
    with compiling.cache(shared=False):
        (own := Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])).mkdir()
    assert not own.parent.exists()


@pytest.mark.parametrize(
    ("target", "scans", "shared"),
    [
        ("uasbench.methods.reconstruction.ae:AE", {}, True),
        ("plugin:Method", {}, False),
        ("uasbench.methods.reconstruction.ae:AE", {"unlabelled": True}, False),
        ("uasbench.methods.reconstruction.ae:AE", {"labelled": True}, False),
    ],
)
def test_only_fits_of_built_in_methods_on_healthy_scans_share_code(target, scans, shared, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(compiling, "cache", lambda *, shared: asked.append(shared) or compiling.nullcontext())
    monkeypatch.setattr(fit, "_train", lambda *_, **__: None)
    spec = MethodSpec(target=target, profile="smoke", anatomy="liver", settings={})
    task = FitTask(id="", method=spec, seed=0, numerics=COMPILED, out=tmp_path)
    fit._learn(task.model_copy(update=scans), tmp_path, lambda *_: None)
    assert asked == [shared]


@pytest.fixture
def learn(monkeypatch, tmp_path):
    """Return ``learn(compiled, plain)``: who trained in turn, where trainings with and without raise these errors."""

    def call(compiled: Exception | None, plain: Exception | None = None) -> list[str]:
        tried = []

        def train(*_, compiled: bool = False) -> None:
            tried.append("compiled" if compiled else "plain")
            if error := errors[tried[-1]]:
                raise error

        errors = {"compiled": compiled, "plain": plain}
        monkeypatch.setattr(fit, "_train", train)
        spec = MethodSpec(target="uasbench.methods.reconstruction.ae:AE", profile="smoke", anatomy="liver", settings={})
        fit._learn(FitTask(id="", method=spec, seed=0, numerics=COMPILED, out=tmp_path), tmp_path, lambda *_: None)
        return tried

    return call


def test_a_training_that_fails_compiled_begins_again_whatever_the_error(learn, tmp_path):
    capturing = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    assert learn(None) == ["compiled"]
    assert learn(capturing) == ["compiled", "plain"]
    assert learn(None) == ["plain"]
    assert "stream is capturing" in (tmp_path / compiling.GAVE_UP).read_text()


def test_a_training_that_fails_without_compiling_too_fails_with_that_error(learn):
    with pytest.raises(ValueError, match="plain"):
        learn(RuntimeError("compiled"), ValueError("plain"))


@pytest.mark.parametrize(
    "error", [TrainingError(), LoopOverError(), DataError(), MemoryError(), torch.OutOfMemoryError()]
)
def test_errors_that_no_other_code_would_mend_are_final(learn, error):
    with pytest.raises(type(error)):
        learn(error, RuntimeError("it began again"))


def test_outcomes_have_the_seconds_of_all_compilations_and_why_cuda_graphs_refused():
    method = drive.construct(AE, resolve(AE.Config, "smoke", "liver"), seed=0, device="cpu", compiled=True)
    seen = SimpleNamespace(fail_type=None, duration_us=1e6)
    refused = SimpleNamespace(fail_type=None, duration_us=1e6, cudagraph_skip_reason="mutated inputs")
    torch._dynamo.utils._compilation_metrics.extend([seen] * 99 + [refused])
    found = compiling.outcome(method)
    assert found["seconds"] == 100
    assert found["eager"][0] == "mutated inputs"


def test_only_addresses_of_compiled_fits_and_of_their_maps_are_others(plan):
    _, plain = plan("ae,hu-deviation")
    _, compiled = plan("ae,hu-deviation", COMPILED)
    assert ids.arithmetic(COMPILED) == ids.arithmetic(EAGER) == {"device": "cpu", "threads": 1, "precision": "fp32"}
    assert compiled["hu-deviation"].ids == plain["hu-deviation"].ids
    assert compiled["hu-deviation"].fits.tasks[0].numerics == EAGER
    for stage in ("fit", "map", "measure"):
        assert getattr(compiled["ae"].ids, stage) != getattr(plain["ae"].ids, stage)


def test_a_compiled_run_has_a_folder_of_its_own_and_others_keep_theirs():
    assert RunOptions(datasets=["lits"], compiled=True).folder() != RunOptions(datasets=["lits"]).folder()
    assert RunOptions(datasets=["lits"], threads=2, data_root=Path("/d")).folder().name == "lits-paper-156753"


def test_tasks_and_costs_of_earlier_versions_were_not_compiled():
    assert Numerics.model_validate_json('{"device": "cpu", "threads": 1, "precision": "fp32"}') == EAGER
