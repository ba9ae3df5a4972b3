"""Top lines: cross-fitted over patients or trained on other sets, never in ``all``, and nobody else sees a label."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.planning.fits import folds, label_plan
from uasbench.benchmark.planning.plan import PlanError
from uasbench.benchmark.planning.scans import Scans, other_lesions
from uasbench.benchmark.stages.fit import FitError, FitTask, MethodSpec, training_scans
from uasbench.benchmark.stages.task import Numerics
from uasbench.datasets.adapters.coronacases import Coronacases
from uasbench.datasets.phantom.disk import write_phantom
from uasbench.datasets.storing.prepared import PreparedCase, TruthRef

METHODS = '''
import numpy as np
from dataclasses import replace
from uasbench import Method, MethodCard
from uasbench.methods.method import SupervisedMethod
from uasbench.datasets.adapters.lits import LiTS
from uasbench.datasets.adapters.surveying import Survey


class Upper(SupervisedMethod):
    """Scores by distance from the mean of the lesions; refuses to map a patient whose labels it has seen."""

    card = MethodCard(name="upper", title="Upper", supervision="full", uses="labels", family="supervised")
    native_threshold = -50.0

    def fit(self, labelled, ctx):
        assert ctx.unlabelled is None
        self.seen = [f"{c.id} {c.patient} {c.image.shape}" for c, _ in labelled]
        self.patients = list(labelled.patients)
        self.mean = float(np.concatenate([c.image[lesion] for c, lesion in labelled]).mean())

    def score(self, case):
        assert case.patient not in self.patients, "it has learned from this patient"
        return -np.abs(case.image - np.float32(self.mean))


class Unseen(Upper):
    card = MethodCard(name="unseen", title="Unseen", supervision="full", uses="labels", family="supervised")
    training = "unseen"

    def score(self, case):
        return -np.abs(case.image - np.float32(self.mean))


class Strange(Upper):
    card = MethodCard(name="strange", title="Strange", supervision="full", uses="labels")
    training = "on-the-test-set"


class Healthy(Method):
    card = MethodCard(name="healthy-only", title="Healthy only", deterministic=True)

    def fit(self, healthy, ctx):
        assert ctx.unlabelled is None
        assert len(healthy) == 1

    def score(self, case):
        assert not hasattr(case, "lesion")
        return np.abs(case.image)


class Second(LiTS):
    card = replace(LiTS.card, name="second", title="A second lesion set")

    def survey(self, root):
        return super().survey(root / "second") if (root / "second").is_dir() else Survey(absent=True)
'''


@pytest.fixture
def plugins(install: Callable[..., Path]) -> None:
    """Top lines, a second lesion set and a method of the usual kind, as pip would have installed them."""
    toplines = {"upper": "labels_plugin:Upper", "unseen": "labels_plugin:Unseen", "strange": "labels_plugin:Strange"}
    install(
        "pkg-labels",
        {"labels_plugin.py": METHODS},
        toplines=toplines,
        methods={"healthy-only": "labels_plugin:Healthy"},
        datasets={"second": "labels_plugin:Second"},
    )


@pytest.fixture(scope="module")
def two_sets(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with two lesion sets whose cases have the same names."""
    path = tmp_path_factory.mktemp("two")
    shutil.copytree(root, path, dirs_exist_ok=True)
    other = tmp_path_factory.mktemp("other")
    write_phantom(other, anatomy="liver", seed=1, size="smoke")
    shutil.copytree(next(other.rglob("volume-0.nii")).parent, path / "second")
    return path


@given(st.sets(st.text("abcdef0123", min_size=1, max_size=4), min_size=1, max_size=40))
def test_folds_part_the_patients(patients):
    groups = folds(patients)
    assert len(groups) == min(3, len(patients))
    assert sorted(p for group in groups for p in group) == sorted(patients)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert folds(sorted(patients, reverse=True)) == groups


@pytest.mark.usefixtures("plugins")
def test_all_never_contains_a_top_line_and_patterns_do():
    known = registry.runnable()
    assert not {"upper", "unseen"} & {*known.select("all"), *known.select("*")}
    assert "healthy-only" in known.select("all")
    assert known.select("u*") == ["unseen", "upper"]
    assert known.select("all,upper")[-1] == "upper"
    with pytest.raises(registry.RegistryError, match="did you mean 'upper'"):
        known.select("uper")


@pytest.mark.usefixtures("plugins")
def test_top_lines_are_cross_fitted_or_learn_from_the_other_sets_and_say_so(run, two_sets):
    done = run("upper,unseen,healthy-only", data_root=two_sets)
    assert not done.failures
    records = {r.cell.method: r for r in done.records}
    record = records["upper"]
    labels = record.labels
    assert labels is not None
    assert (record.method.supervision, record.method.uses, labels.training) == ("full", "labels", "cross-fit")
    assert labels.sets == ["lits"]
    assert sorted(p for fold in labels.folds for p in fold) == sorted(set(record.data.patients.values()))
    patients = record.data.patients
    for fold, cases in zip(labels.folds, labels.cases, strict=True):
        assert cases == [case for case, patient in patients.items() if patient not in fold]
    assert len(record.ids.fits) == len(labels.folds) == 2
    healthy = sorted(p.name for p in (done.folder.map_dir(record.cell) / "healthy").iterdir())
    held = record.data.split["calibrate"][0]["case"]
    assert healthy == [f"{held}@0.map", f"{held}@1.map"]
    quantile = next(t for t in record.thresholds if t.protocol == "healthy-q95")
    assert quantile.threshold is not None
    summary = done.table("summary")
    flags = summary.groupby("method")["flags"].first()
    assert "topline" in flags["upper"]
    assert "topline" not in flags["healthy-only"]
    assert records["healthy-only"].labels is None
    report = (done.path / "report.html").read_text()
    assert "cross-fitted" in report
    labels = records["unseen"].labels
    assert labels is not None
    assert (labels.training, labels.sets, labels.folds) == ("unseen", ["second"], [])
    assert len(records["unseen"].ids.fits) == 1
    assert labels.cases == [["volume-0", "volume-1"]]


@pytest.mark.usefixtures("plugins")
def test_folds_and_their_truth_enter_the_address_of_a_fit_and_of_no_other(plan, root, tmp_path):
    _, first = plan("upper,healthy-only")
    noisy = tmp_path / "noisy"
    shutil.copytree(root, noisy)
    path = next(noisy.rglob("segmentation-0.nii"))
    image = nib.load(path)
    labels = np.asanyarray(image.dataobj).copy()
    inside = np.argwhere(labels == 1)[0]
    labels[tuple(inside)] = 2
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    _, second = plan("upper,healthy-only", data_root=noisy)
    assert first["healthy-only"].ids.map == second["healthy-only"].ids.map
    changed = [a != b for a, b in zip(first["upper"].ids.fits, second["upper"].ids.fits, strict=True)]
    learned = ["volume-0" in [c.id for c, _ in fit.labelled] for fit in first["upper"].fits.tasks]
    assert changed == learned
    assert sorted(learned) == [False, True]
    assert not any(fit.labelled or fit.unlabelled for fit in first["healthy-only"].fits.tasks)
    assert not any(fit.parts or fit.unlabelled for fit in first["upper"].fits.tasks)


@pytest.mark.usefixtures("plugins")
def test_what_cannot_be_trained_is_skipped_with_its_reason(plan):
    task, cells = plan("upper,unseen,strange,healthy-only", exclude=["lits:volume-1"])
    reasons = {s.method: s.reason for s in task.skipped}
    assert list(cells) == ["healthy-only"]
    assert "lits has one patient: nobody else to learn from" in reasons["upper"]
    assert "of which the data root holds none that may train (looked for msd-vessels, second)" in reasons["unseen"]
    assert "choose cross-fit or unseen" in reasons["strange"]
    task.data.card = replace(task.data.card, truth="slice")
    assert label_plan(task.data, "cross-fit") == "learns from lesion masks; lits has slice labels only"
    with pytest.raises(PlanError, match="no method can run on lits: unseen: learns from the other liver sets"):
        plan("unseen")


@pytest.fixture
def people(two_sets):
    """Return ``people(lits, second)``: tables of patients beside the two sets, each row ``set,case,patient``."""
    tables = [two_sets / "patients.csv", two_sets / "second" / "patients.csv"]

    def write(*rows: list[str]) -> None:
        for path, lines in zip(tables, rows, strict=True):
            path.write_text("\n".join(["set,case,patient", *lines]) + "\n")

    yield write
    for path in tables:
        path.unlink()


def test_unseen_looks_at_sets_whose_lesions_are_of_the_tested_kind_or_of_an_unnamed_one():
    findings = {"target": "pneumonia", "alike": "pneumonia", "mute": None, "masses": "tumour"}
    cards = {name: replace(Coronacases.card, name=name, finding=finding) for name, finding in findings.items()}

    class Source:
        registry = SimpleNamespace(cards=lambda: cards)

        @staticmethod
        def scans_if_there(name):
            return Scans()

    def looked_for(target):
        return other_lesions(target, Source(), [], []).looked_for  # pyright: ignore[reportArgumentType]

    assert looked_for("target") == ["alike", "mute"]
    assert looked_for("masses") == ["mute"]
    assert looked_for("mute") == ["target", "alike", "masses"]


@pytest.mark.usefixtures("plugins")
def test_unseen_leaves_out_patients_who_are_tested(plan, two_sets, people):
    people(["lits,volume-0,anna"], ["second,volume-1,anna"])
    task, cells = plan("unseen", data_root=two_sets)
    (fit,) = cells["unseen"].fits.tasks
    assert [case.id for case, _ in fit.labelled] == ["volume-0"]
    assert any("second:volume-1 is left out of training" in w for w in task.data.warnings)


@pytest.mark.usefixtures("plugins")
def test_unseen_leaves_out_patients_who_calibrate_and_keeps_those_who_train(plan, two_sets, people):
    healthy = sorted(case.id for case in plan("unseen", data_root=two_sets)[0].data.healthy)
    ours = [f"btcv,{case},person {case}" for case in healthy]
    people(ours, [])
    split = plan("unseen", data_root=two_sets)[0].data.split
    ((calibrates, _),), ((trains, _),) = split.calibration, split.train
    people(ours, [f"second,volume-0,person {trains}", f"second,volume-1,person {calibrates}"])
    for calibration, learns in (("held-out", ["volume-0"]), ("none", ["volume-0", "volume-1"])):
        task, cells = plan("unseen", data_root=two_sets, calibration=calibration)
        (fit,) = cells["unseen"].fits.tasks
        assert [case.id for case, _ in fit.labelled] == learns
        said = [w for w in task.data.warnings if "second:volume-1 is left out of training" in w]
        assert bool(said) == (calibration == "held-out")
        assert all(f"healthy scans of patient 'person {calibrates}' calibrate" in w for w in said)


def test_a_fit_refuses_scans_that_the_card_does_not_allow():
    spec = MethodSpec(target="somewhere:Method", profile="smoke", anatomy="liver", settings={})
    numerics = Numerics(device="cpu", threads=1, precision="fp32")
    task = FitTask(id="f", method=spec, seed=0, numerics=numerics, out=Path("out"))
    case = PreparedCase(
        dataset="d", id="c", patient="p", spacing=(1, 1, 1), shape=(1, 1, 1), fingerprint="f", path=Path("c")
    )
    labelled = task.model_copy(update={"labelled": ((case, TruthRef(Path("t"), "t")),)})
    unlabelled = task.model_copy(update={"unlabelled": (case,)})
    wrong = ((labelled, "healthy"), (labelled, "unlabelled-test"), (unlabelled, "healthy"), (unlabelled, "labels"))
    for refused, uses in wrong:
        with pytest.raises(FitError, match="does not allow"):
            training_scans(refused, uses)
