"""What a run says about the machine and the source that made it."""

import subprocess

import pytest
from uasbench.benchmark import environment
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
