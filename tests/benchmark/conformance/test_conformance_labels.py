"""Top lines and transductive methods meet in the check what they meet in a run."""

import numpy as np
from uasbench import MethodCard
from uasbench.benchmark.conformance.phantom import labelled_cases, lesion_cases
from uasbench.benchmark.conformance.run import run_checks
from uasbench.methods.method import SupervisedMethod

TOP = MethodCard(name="top", title="A top line", supervision="full", uses="labels")


class MeanOfLesions(SupervisedMethod):
    card = TOP

    def fit(self, labelled, ctx):
        assert ctx.unlabelled is None
        self.mean = float(np.concatenate([case.image[lesion] for case, lesion in labelled]).mean())

    def score(self, case):
        return -np.abs(case.image - np.float32(self.mean))


def test_a_top_line_gets_labelled_scans(failures):
    assert not failures(MeanOfLesions)


def test_a_top_line_that_writes_into_a_mask_is_found(wrong):
    def fit(self, labelled, ctx):
        for _, lesion in labelled:
            lesion[0, 0, 0] = True

    found = wrong("inputs untouched", MeanOfLesions, fit=fit, score=lambda self, case: case.image * np.float32(1))
    assert "fit writes into the lesion mask" in found


def test_labelled_scans_are_those_of_other_patients():
    learned, tested = labelled_cases(), lesion_cases()
    assert len({case.patient for case, _ in [*learned, *tested]}) == len(learned) + len(tested)
    assert all(lesion.any() and (lesion <= case.roi).all() for case, lesion in learned)


def test_a_transductive_method_gets_the_scored_scans_and_no_other_does(median_residual, failures):
    def fit(self, healthy, ctx):
        self.seen = [case.id for case in ctx.unlabelled]
        assert self.seen == [case.id for case, _ in lesion_cases()]

    peeks = MethodCard(name="peeks", title="Peeks", uses="unlabelled-test")
    assert not failures(median_residual, card=peeks, fit=fit)

    def plain(self, healthy, ctx):
        assert ctx.unlabelled is None

    assert not failures(median_residual, fit=plain)


def test_a_registered_top_line_is_checked_by_name(install):
    text = (
        "import numpy as np\nfrom uasbench import MethodCard\n"
        "from uasbench.methods.method import SupervisedMethod\n"
        "class P(SupervisedMethod):\n"
        "    card = MethodCard(name='named-top', title='T', supervision='full', uses='labels')\n"
        "    def fit(self, labelled, ctx):\n        self.count = len(labelled)\n"
        "    def score(self, case):\n        return case.image * np.float32(self.count)\n"
    )
    install("pkg-top", {"named_top_plugin.py": text}, toplines={"named-top": "named_top_plugin:P"})
    assert not [r for r in run_checks("named-top") if r.failed]
