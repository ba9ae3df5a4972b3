"""An adapter of a package that takes its process down: one refusal that names the file, in every command."""

import subprocess
import sys

import pytest
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.planning.options import validated
from uasbench.benchmark.planning.tasks import planned_tasks
from uasbench.common.errors import DataError
from uasbench.datasets.check import check
from uasbench.datasets.readers import Readers

ADAPTERS = """
import os, signal, sys
from dataclasses import replace
from uasbench.datasets.adapters.lits import LiTS


def named(name):
    return replace(LiTS.card, name=name)


class Reading(LiTS):
    card = named("reading")

    def load(self, case_id):
        if case_id == "volume-1":
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().load(case_id)


class Finding(LiTS):
    card = named("finding")

    def survey(self, root):
        os.abort()


class Leaving(LiTS):
    card = named("leaving")

    def survey(self, root):
        sys.exit(0)
"""


@pytest.fixture
def sets(install):
    names = ("Reading", "Finding", "Leaving")
    install(
        "pkg-crashing",
        {"crashing_sets.py": ADAPTERS},
        datasets={name.lower(): f"crashing_sets:{name}" for name in names},
    )
    return {name: registry.datasets().get(name)() for name in ("lits", "reading", "finding", "leaving")}


def test_check_reports_the_case_and_goes_on(sets, root):
    with Readers() as readers:
        report = check(root, sets, readers)
    lits, reading, finding, leaving = report.sets
    assert not lits.errors
    assert [case.error is None for case in reading.cases] == [True, False]
    (error,) = [case.error for case in reading.cases if case.error]
    assert error.startswith(f"{next(root.rglob('volume-1.nii'))} (or segmentation-1.nii): the reader crashed (SIGSEGV)")
    assert "--exclude reading:volume-1" in error
    assert finding.errors == [f"{root}: the adapter of finding failed: the reader crashed (SIGABRT)"]
    assert leaving.errors == [f"{root}: the adapter of leaving failed: SystemExit: 0"]


def test_a_run_refuses_the_case_and_does_without_it(sets, root, tmp_path):
    del sets

    def planned(name, **options):
        options = {"data_root": root, "cache": tmp_path, "profile": "smoke", **options}
        return planned_tasks(validated(methods="hu-deviation", datasets=name, **options), 1)

    for name, words in (("reading", r"volume-1\.nii .*SIGSEGV"), ("finding", "SIGABRT"), ("leaving", "SystemExit")):
        with pytest.raises(DataError, match=words):
            planned(name)
    (task,) = planned("reading", exclude=["reading:volume-1"])
    assert [case.id for case in task.data.test] == ["volume-0"]


def test_sets_of_this_package_are_found_without_opening_a_scan(root):
    """Their discovery runs in the command's own process, so that it must not touch a library that reads scans."""
    script = (
        "import sys; from pathlib import Path; from uasbench.benchmark.catalogue.registry import datasets\n"
        "from uasbench.datasets.looking import look\n"
        "for name in datasets().names(): look(datasets().get(name)(), Path(sys.argv[1]))\n"
        "print([name for name in ('SimpleITK', 'nibabel', 'pydicom', 'isal') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(root)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
