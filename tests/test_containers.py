"""The recipes of containers: their parts are known ones, and what they run is valid shell with extras that exist."""

import re
import subprocess
import tomllib

import pytest

DOCKER = {"FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT", "CMD"}
APPTAINER = {"files", "post", "environment", "runscript", "test"}


def docker(text: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip() and not line.startswith("#")]


def apptainer(text: str) -> tuple[dict[str, str], dict[str, str]]:
    head, *parts = re.split(r"^%", text, flags=re.MULTILINE)
    keys = dict(line.split(": ", 1) for line in head.splitlines() if line and not line.startswith("#"))
    return keys, {name: body for name, _, body in (part.partition("\n") for part in parts)}


def check_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_has_known_instructions_and_valid_commands(repository):
    found = docker((repository / "containers" / "Dockerfile").read_text())
    assert found[0][0] == "FROM"
    assert {name for name, _ in found} <= DOCKER
    for name, rest in found:
        if name == "RUN":
            check_shell(rest)
        if name in ("ENTRYPOINT", "CMD"):
            assert re.fullmatch(r'\["[^"]+"(, "[^"]+")*\]', rest)


def test_the_apptainer_recipe_has_known_sections_and_valid_commands(repository):
    keys, sections = apptainer((repository / "containers" / "apptainer.def").read_text())
    assert keys == {
        "Bootstrap": "docker",
        "From": dict(docker((repository / "containers" / "Dockerfile").read_text()))["FROM"],
    }
    assert set(sections) == APPTAINER
    for name in APPTAINER - {"files"}:
        check_shell(sections[name])


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_the_extras_that_a_recipe_installs_exist_and_its_python_is_supported(repository, name):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    text = (repository / "containers" / name).read_text()
    (extras,) = re.findall(r"/opt/uasbench\[([\w,-]+)\]", text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (minor,) = re.findall(r"python:3\.(\d+)", text)
    assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]
