"""What a run says about the machine and the source that made it."""

import subprocess

import pytest
from uasbench.benchmark import environment
from uasbench.benchmark.instructions import instruction_set
from uasbench.benchmark.planning.info import version_warnings
from uasbench.common import package


@pytest.fixture
def head(repository) -> str:
    """The commit that is checked out."""
    done = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("these tests do not run from a git checkout")
    return done.stdout.strip()


def test_a_run_names_the_commit_of_the_checkout_that_made_it(small_run, head):
    assert small_run.info()["environment"]["commit"] == head


def test_a_wheel_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(package, "ROOT", tmp_path)
    assert environment.commit() is None


def test_records_name_the_packages_that_rows_are_made_of(monkeypatch):
    there = dict.fromkeys(("torch", "timm", "SimpleITK", "nnunetv2"), "1.2")

    def version(name):
        if name not in there:
            raise environment.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(environment, "version", version)
    found = environment.versions.__wrapped__()
    assert {name: found[name] for name in there} == there
    assert found["monai"] == "not installed"
    there.clear()
    assert "nnunetv2" not in environment.versions.__wrapped__(), "an extra that is not there is no fault"


def test_records_say_on_which_instructions_they_were_made(small_run):
    made_on = [record.environment["made_on"] for record in small_run.records()]
    assert made_on == [made_on[0]] * 3
    (text,) = made_on[0]
    assert "numpy " in text
    assert "torch " in text


def test_going_on_under_other_versions_or_instructions_is_warned_about(folder):
    assert version_warnings(folder) == []
    before = folder.info()["environment"]
    before["instruction_set"] |= {"numpy": "X86_V2", "MKL_CBWR": "AVX2"}
    before["versions"] |= {"torch": "1.0"}
    folder.update_info(environment=before)
    versions, instructions = version_warnings(folder)
    assert "other versions: torch 1.0 → " in versions
    assert "another instruction set (MKL_CBWR AVX2 → not set, numpy X86_V2 → " in instructions
    folder.update_info(environment={})
    assert version_warnings(folder) == [], "an older run does not say"


def test_a_choice_among_instructions_is_recorded(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert instruction_set()["ATEN_CPU_CAPABILITY"] == "default"
