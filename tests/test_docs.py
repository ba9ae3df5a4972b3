"""The pages of the project: snippets run, commands parse, links lead somewhere, and what they name exists."""

import ast
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
import uasbench
import yaml
from typer.testing import CliRunner
from uasbench import cli
from uasbench.benchmark import experiments
from uasbench.benchmark.catalogue import registry
from uasbench.benchmark.executors.command import CommandSettings
from uasbench.benchmark.executors.contract import checked_settings
from uasbench.benchmark.executors.slurm import SlurmSettings
from uasbench.common.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RECIPES = dict(
    re.findall(
        r"^([a-z]+)(?: \*\w+)?:\n((?:    .*\n|\n)+)", (ROOT / "justfile").read_text(encoding="utf-8"), re.MULTILINE
    )
)
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/**/*.md"))
FOLDERS = ("common", "datasets", "methods", "benchmark", "reports", "docs", "tests")
SOURCES = sorted(ROOT.glob("*.py")) + [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
TOP = "api|benchmark|cli|common|datasets|docs|experiments|methods|reports|tests|\\.ci"
FENCE = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = typer.main.get_command(cli.app)
PLACEHOLDER = re.compile(r"[A-Z]+|.*…")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str
    runs: bool


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, language, text, bool(mark))
        for page in PAGES
        for mark, language, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def spans(page: Path) -> Iterator[str]:
    yield from (" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", page.read_text(encoding="utf-8"))))


def python(name: str) -> str:
    found = [block.text for block in blocks("python") if named(block.page) == name]
    assert found, f"{name} has no Python"
    return "\n".join(found)


@pytest.fixture
def execute(monkeypatch):
    """Run the Python of a page from top to bottom, in one module as a reader would."""

    def call(name: str, text: str, **given: Any) -> dict[str, Any]:
        module = ModuleType(f"page_{Path(name).stem}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        vars(module).update(given)
        exec(compile(text, name, "exec"), vars(module))
        return vars(module)

    return call


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UASBENCH_CACHE", str(tmp_path / "prepared"))
    monkeypatch.delenv("UASBENCH_DATA", raising=False)
    return tmp_path


def test_pages_are_read_and_those_with_python_are_run_by_a_test_below():
    assert len(PAGES) > 30
    assert {block.language for block in blocks("python", "bash", "toml", "")} == {"python", "bash", "toml", ""}
    assert "bench list methods" in {span for page in PAGES for span in spans(page)}
    tests = Path(__file__).read_text(encoding="utf-8")
    assert {named(block.page) for block in blocks("python")} == set(re.findall(r'python\("([^"]+)"\)', tests))


def test_the_run_of_the_readme_its_studies_and_its_maps(elsewhere, execute, quick_run):
    text = python("README.md").replace("uasbench.run(", "quick_run(")
    run = execute("README.md", text, quick_run=quick_run)["run"]
    assert len(run.records) == 2
    cell = next((run.path / "tuning").glob("ae__*.log")).stem
    study = python("docs/protocols.md").replace("RUN/", f"{run.path}/").replace("CELL", cell)
    assert execute("docs/protocols.md", study)["study"].trials
    read = execute("docs/maps.md", python("docs/maps.md"))["read"]
    for record in run.records:
        for case in record.data.cases:
            array, geometry = read(run.folder.map_dir(record.cell) / f"{case}.map")
            assert array.any()
            assert (geometry is None) == (record.cell.method == "hu-deviation")
            assert geometry is not None or np.array_equal(array, run.map("hu-deviation", case))


def test_the_phantom_page(elsewhere, execute):
    execute("docs/phantom.md", python("docs/phantom.md"))
    assert (elsewhere / "phantom-1" / "phantom.json").is_file()
    assert list((elsewhere / "cache").rglob("luna16"))


def test_the_data_set_of_the_plug_ins_page_reads_its_layout(elsewhere, execute):
    """The methods of the page are held against the contract in test_plugin_template.py."""
    data = execute("docs/plugins.md", python("docs/plugins.md"))["Folders"]()
    with pytest.raises(DataError, match=r"no folders/PATIENT/ct\.npz"):
        data.discover(elsewhere)
    image = np.random.default_rng(0).normal(60, 10, (4, 24, 24)).astype(np.float32)
    arrays = {"image": image, "roi": np.ones(image.shape, bool), "lesion": image > 75, "spacing": np.array([5.0, 1, 1])}
    for patient in ("b", "a"):
        (elsewhere / "folders" / patient).mkdir(parents=True)
        np.savez(elsewhere / "folders" / patient / "ct.npz", **arrays)
    assert [(ref.id, ref.patient) for ref in data.discover(elsewhere)] == [("a", "a"), ("b", "b")]
    assert data.load("a").spacing == (5.0, 1, 1)
    assert (data.load_truth("a").lesion == arrays["lesion"]).all()


@pytest.mark.parametrize("block", [b for b in blocks("bash") if b.runs], ids=lambda block: named(block.page))
def test_marked_commands_run(block, elsewhere):
    for words in commands(block.text):
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("block", blocks("toml", "yaml"), ids=lambda block: named(block.page))
def test_settings_parse(block):
    assert (tomllib.loads if block.language == "toml" else yaml.safe_load)(block.text)


def commands(text: str) -> Iterator[list[str]]:
    """The words after ``bench`` of each command line."""
    for line in text.splitlines():
        for part in re.split(r"&&|\|", re.sub(r"\s#.*", "", line)):
            words = shlex.split(part)
            if len(words) > 1 and Path(words[0]).name == "bench":
                yield words[1:]


def parsed(words: list[str], whole: bool) -> dict[str, Any]:
    """Parse a command line as the command does, without running it; a mention in a sentence may leave arguments out."""
    command, name = COMMAND, "bench"
    while words and name in ("bench", "data"):
        name, *words = words
        command = command.commands.get(name)
        assert command is not None, f"no command {name!r}"
    try:
        return command.make_context(name, words).params
    except Exception as error:
        if whole or "Missing" not in type(error).__name__:
            raise
        return {}


def entry_points() -> list[dict[str, Any]]:
    """Entry points in blocks of ``pyproject.toml``; other blocks are settings of queues."""
    tables = [tomllib.loads(block.text) for block in blocks("toml")]
    return [table["project"]["entry-points"] for table in tables if "project" in table]


def test_settings_of_queues_can_be_used():
    page, row_of = ROOT / "docs" / "cluster.md", r"^\| (?:PBS|OAR) \| `(.*)` \| `(.*)` \| `(.*)` \|$"
    settings = [tomllib.loads(block.text) for block in blocks("toml") if block.page == page]
    rows = re.findall(row_of, page.read_text(encoding="utf-8"), re.MULTILINE)
    settings += [dict(zip(("submit", "poll", "cancel"), row, strict=True)) for row in rows]
    assert len(settings) == 5
    for values in settings:
        checked_settings(CommandSettings if "submit" in values else SlurmSettings, values)


@cache
def example_names() -> set[str]:
    """Names that the pages themselves register or create."""
    tables = entry_points()
    made = [words[1] for block in blocks("bash") for words in commands(block.text) if words[0] == "new-plugin"]
    return {name for table in tables for group in table.values() for name in group} | set(made)


def unknown_names(params: dict[str, Any]) -> Iterator[str]:
    sets, methods = registry.datasets().names(), registry.runnable().names()
    allowed = {
        "methods": [*methods, "all"],
        "method": [*methods, *sets],
        "reference": methods,
        "dataset": sets,
        "datasets": sets,
        "profile": ["smoke", "quick", "standard", "paper"],
        "experiment": [*experiments.names(), "*.yaml"],
    }
    for option, names in allowed.items():
        given = params.get(option) or ""
        for text in given if isinstance(given, list) else given.split(","):
            known = any(fnmatchcase(name, text) or fnmatchcase(text, name) for name in [*names, *example_names()])
            if text and not known and not PLACEHOLDER.fullmatch(text):
                yield f"{option} {text}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_parse_and_name_what_exists(page):
    whole = [words for block in blocks("bash") if block.page == page for words in commands(block.text)]
    mentions = [words for span in spans(page) for words in commands(span)]
    for words in whole + mentions:
        found = parsed(words, words in whole)
        if words[0] == "import":
            found.pop("method", None)  # maps of another program go by any name
        assert not list(unknown_names(found)), words


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if not path.startswith(("http://", "https://")):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def groups() -> set[str]:
    tables = entry_points()
    return {group for table in [PROJECT["project"]["entry-points"], *tables] for group in table}


def missing(name: str) -> bool:
    """Whether ``uasbench.x.y`` is no module, nothing in a module, and no group of entry points."""
    module, rest = name, []
    while module:
        try:
            found: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for part in rest:
        if not hasattr(found, part):
            return name not in groups()
        found = getattr(found, part)
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_modules_and_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    wrong = [name for name in set(re.findall(r"\buasbench(?:\.\w+)+", text)) if missing(name)]
    for span in spans(page):
        for word in re.findall(r"[\w./*-]+", span):
            if re.match(rf"(?:{TOP})/", word) and word[-1] != "/" and "." not in word.rpartition("/")[2]:
                continue  # a folder of the reader's data may have such a name
            if re.match(rf"(?:{TOP})/", word):
                wrong += [] if list(ROOT.glob(word)) else [word]
            elif re.fullmatch(r"(?:test_)?\w+\.py", word):
                wrong += [] if word in {path.name for path in SOURCES} else [word]
    for file, name in re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text):
        wrong += [] if f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") else [f"{file}::{name}"]
    assert not wrong


def test_pages_that_the_source_names_exist():
    wrong = [
        f"{path}: {page}"
        for path in SOURCES
        for page in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
        if not (ROOT / page).exists()
    ]
    assert not wrong


def test_every_learned_method_says_how_it_was_read():
    known = registry.runnable()
    learned = {n for n, card in known.cards().items() if known.entry(n).built_in and not card.trivial}
    pages = {path: path.read_text(encoding="utf-8").splitlines()[0] for path in ROOT.glob("docs/methods/*.md")}
    assert {name for heading in pages.values() for name in heading.removeprefix("# ").split(", ")} == learned
    overview = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for path, heading in pages.items():
        assert f"[{heading.removeprefix('# ')}](methods/{path.name})" in overview


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: uasbench\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(uasbench.__all__)


def test_the_citation_file_is_valid_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert all(author.get("name") for author in citation["authors"])


def test_the_changelog_has_this_version_and_known_headings():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\](?: - \d{4}-\d\d-\d\d)?$", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert PROJECT["project"]["version"] in versions
    known = {"Added", "Changed", "Deprecated", "Fixed", "Removed", "Security", "Numbers change"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= known


def lines_of(entry: str, path: Path) -> int:
    """Lines of an entry of a catalogue, the functions that it names included."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        return len(re.findall(rf"^{entry}:\n((?:  .*\n)+)", text, re.MULTILINE)[0].splitlines()) + 1
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    (call,) = [
        c
        for c in calls
        if getattr(c.args[0], "value", None) == entry and getattr(c.func, "id", "") in ("Metric", "Protocol")
    ]
    named = [functions[node.id] for node in ast.walk(call) if isinstance(node, ast.Name) and node.id in functions]
    return sum(node.end_lineno - node.lineno + 1 for node in [call, *named])


def test_what_an_addition_costs_is_what_the_tree_says():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    entries = re.findall(r"`([a-z_-]+)` in `([\w./]+)` \((\d+) lines\)", text)
    files = re.findall(r"`([\w./]+\.py)` \((\d+) lines\)", re.sub(r"`[a-z_-]+` in `.*?\)", "", text))
    assert len(entries) >= 3
    assert len(files) >= 4
    counted = {entry: lines_of(entry, ROOT / name) for entry, name, _ in entries}
    counted |= {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name, _ in files}
    said = {entry: int(lines) for entry, _, lines in entries} | {name: int(lines) for name, lines in files}
    wrong = {what: found for what, found in counted.items() if abs(found - said[what]) > max(1, found / 5)}
    assert not wrong


def test_tasks_have_one_home():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"<!-- test command -->\n```bash\n(.+)\n```", readme)
    assert command is not None
    assert command[1].endswith(RECIPES["test"].replace("{{ arguments }}", "").strip())
    for name in (".ci/run", "CONTRIBUTING.md", ".pre-commit-config.yaml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.findall(r"\b(?:ruff|pyright|mkdocs|pytest) (?:-|check|format|build)", text), name
        tasks = re.findall(r"\bjust ([a-z]+)", text) + re.findall(r"for task in ([a-z ]+);", text)
        assert {task for found in tasks for task in found.split()} <= RECIPES.keys(), name
