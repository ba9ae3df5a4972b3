"""Whatever is changed in a finished run, or in the data behind it, is found and named; an untouched one is whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uasbench import api
from uasbench.benchmark.runs import certificate
from uasbench.benchmark.runs.folder import RunFolder
from uasbench.benchmark.runs.map_store import read_map, write_map
from uasbench.benchmark.runs.records import MAP_SEAL, write_json
from uasbench.benchmark.verification import measuring
from uasbench.benchmark.verification.findings import Verification
from uasbench.common.sealed import read_sealed, seal_folder

from .in_process import InProcess

CELL = "hu-deviation__lits__btcv__s0"


@pytest.fixture(scope="module")
def finished(quick_run, root: Path, cache: Path, tmp_path_factory) -> Path:
    """A run with its data root beside it."""
    home = tmp_path_factory.mktemp("finished")
    shutil.copytree(root, home / "data")
    options = {"data_root": home / "data", "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    quick_run("hu-deviation,random", "lits", out=home / "run", **options)
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of it for one test."""
    monkeypatch.setattr(measuring, "find_executor", lambda name: InProcess)
    return shutil.copytree(finished, tmp_path / "home")


def verified(home: Path, **options: Any) -> Verification:
    before = {p: p.read_bytes() for p in (home / "run").rglob("*") if p.is_file()}
    found = api.verify(home / "run", **{"data_root": (home / "data").absolute(), **options})
    assert {p: p.read_bytes() for p in (home / "run").rglob("*") if p.is_file()} == before, "it leaves a run as it is"
    return found


def differences(found: Verification) -> dict[str, list[str]]:
    return {part.name: [str(one) for one in part.differences] for part in found.parts if part.differences}


def test_a_run_is_as_recorded_and_every_number_was_measured_again(home, monkeypatch):
    monkeypatch.chdir(home)
    found = verified(Path())
    assert found.outcome == "verified", "\n".join(found.lines(99))
    counts = {part.name: part.counts for part in found.parts}
    assert counts["files"] == {"records": 2, "maps": 6, "checkpoints": 2}
    records = RunFolder(home / "run").records()
    assert counts["numbers"]["numbers"] == sum(len(r.per_case) + len(r.pooled) for r in records)
    assert counts["data"] == {"scans": 4, "label files": 2, "splits": 1}
    assert counts["tables"]["tables"] == len(list((home / "run" / "tables").iterdir()))
    assert any("have to be equal to the last bit" in remark for part in found.parts for remark in part.remarks)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def change_voxel(run: Path) -> None:
    """Change one voxel of a map as somebody would who writes the digests anew."""
    path = run / "maps" / CELL / "volume-0.map"
    stored = read_map(path)
    map_ = stored.view_map()
    map_[tuple(np.argwhere(stored.support)[0])] += 1e6
    write_map(path, map_, stored.geometry, stored.support)
    seal = path.parent / MAP_SEAL
    about = read_sealed(seal)
    seal_folder(
        seal, {k: v for k, v in about.items() if k not in ("files", "digest")}, but=(".contents", "gallery.npz")
    )


def change_record(run: Path, *, sealed: bool) -> None:
    folder = RunFolder(run)
    path = run / "records" / f"{CELL}.json"
    record = folder.record(path)
    row = next(row for row in record.per_case if (row.protocol, row.metric) == ("oracle", "dice"))
    if sealed:
        row.value = 0.987
        write_json(path, record)
    else:
        path.write_text(path.read_text().replace(repr(row.value), "0.987", 1))


def change_table(run: Path) -> None:
    path = run / "tables" / "per_case.csv"
    lines = path.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if "oracle,dice" in line)
    cells = lines[number].split(",")
    cells[8] = "0.5"
    lines[number] = ",".join(cells)
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("change", "part", "named"),
    [
        (lambda run: flip(run / "maps" / CELL / "volume-0.map"), "files", "volume-0.map: its digest differs"),
        (lambda run: (run / "maps" / CELL / "volume-1.map").unlink(), "files", "volume-1.map: No such file"),
        (change_voxel, "certificate", f"maps/{CELL}/map.json: "),
        (change_voxel, "numbers", f"{CELL}, none auroc volume-0: "),
        (lambda run: change_record(run, sealed=False), "files", f"records/{CELL}.json: was changed"),
        (lambda run: change_record(run, sealed=False), "numbers", f"{CELL}, oracle dice volume-0: 0.987 → 0."),
        (lambda run: change_record(run, sealed=True), "certificate", f"records/{CELL}.json: "),
        (lambda run: change_record(run, sealed=True), "numbers", f"{CELL}, oracle dice volume-0: 0.987 → 0."),
        (lambda run: (run / "records" / f"{CELL}.json").unlink(), "files", f"records/{CELL}.json: is missing"),
        (lambda run: (run / "records" / f"{CELL}.json").write_text("{"), "files", f"records/{CELL}.json: "),
        (change_table, "tables", "hu-deviation 0 volume-0 oracle dice), value: 0.5 → 0."),
        (lambda run: (run / "tables" / "cost.csv").unlink(), "tables", "tables/cost.csv: is missing"),
        (lambda run: flip(next(run.glob("fits/*/last.pt"))), "files", "last.pt: its digest differs"),
        (
            lambda run: shutil.copy(run / "maps" / CELL / "volume-0.map", run / "maps" / CELL / "volume-0.mask"),
            "files",
            "volume-0.mask: was not made with the other maps",
        ),
    ],
)  # fmt: skip
def test_what_is_changed_in_a_run_is_found_and_named(home, change, part, named):
    change(home / "run")
    found = verified(home)
    assert found.outcome == "differs"
    assert any(named in text for text in differences(found)[part]), "\n".join(found.lines(99))


def test_tables_have_to_follow_from_what_is_measured_and_not_from_a_changed_record(home, quick):
    change_record(home / "run", sealed=True)
    assert differences(verified(home)).keys() == {"certificate", "numbers"}, "the tables are those of the maps"
    with quick():
        api.report(home / "run")
    assert "tables" in differences(verified(home))


@pytest.mark.parametrize("change", ["commands", "seeds", "certificate"])
def test_what_the_certificate_says_of_the_run_is_compared(home, change):
    folder = RunFolder(home / "run")
    info = folder.info()
    if change == "certificate":
        info["certificate"]["isolation"] = {"landlock": 99}
    else:
        info[change] = [*info[change], 7]
    write_json(folder.run_json, info)
    found = differences(verified(home))
    assert found.keys() == {"certificate"}
    assert any(change in text for text in found["certificate"])


def test_changed_scans_and_labels_are_named_and_their_cells_not_measured(home, monkeypatch):
    for path in (home / "data").rglob("segmentation-1.nii"):
        content = bytearray(path.read_bytes())
        lesion = np.flatnonzero(np.frombuffer(content[352:], np.uint8) == 2)
        content[352 + int(lesion[0])] = 1
        path.write_bytes(content)
    found = verified(home)
    assert [text.partition(":")[0] for text in differences(found)["data"]] == ["lits volume-1, labels"]
    numbers = next(part for part in found.parts if part.name == "numbers")
    assert "volume-1 are not those of the record" in numbers.unverified[0]


def test_another_split_is_named(home, monkeypatch):
    whole = measuring.plain_task

    def other(options, readers):
        data = whole(options, readers)
        data.split.manifest["train"], data.split.manifest["calibrate"] = (
            data.split.manifest["calibrate"], data.split.manifest["train"],
        )  # fmt: skip
        return data

    monkeypatch.setattr(measuring, "plain_task", other)
    assert "lits after btcv, split" in differences(verified(home))["data"][0]


def test_without_the_scans_the_prepared_ones_are_measured_and_the_rest_is_said(home):
    found = verified(home, data_root=home / "nowhere")
    assert found.outcome == "not verified"
    data, numbers = (next(part for part in found.parts if part.name == name) for name in ("data", "numbers"))
    assert "cannot be read from their files: the data root" in data.unverified[0]
    assert (numbers.outcome, numbers.counts["cells"]) == ("verified", 2)


def test_what_was_not_kept_is_said(home):
    shutil.rmtree(home / "run" / "maps" / CELL)
    found = verified(home)
    assert found.outcome == "not verified"
    assert any(f"maps/{CELL}: the maps were not kept" in text for text in found.parts[0].unverified)
    assert verified(home, tables_only=True).outcome == "verified", "tables alone need no maps"


def test_a_run_that_goes_on_has_no_certificate_until_it_is_done(home):
    folder = RunFolder(home / "run")
    folder.update_info(**certificate.REVOKED)
    found = verified(home)
    assert found.outcome == "not verified"
    certificate.issue(folder, folder.records())
    assert verified(home).outcome == "verified"


def test_under_another_version_the_last_digits_may_differ_and_no_more(home):
    """Their tables are not those of the run, which nobody looks at here."""
    folder = RunFolder(home / "run")
    record = folder.record(folder.records_dir / f"{CELL}.json")
    record.environment["versions"]["numpy"] = "1.0"
    row = next(row for row in record.per_case if (row.protocol, row.metric) == ("oracle", "dice"))
    for error, outcome in ((1e-8, "verified"), (1e-5, "differs")):
        value, row.value = row.value, row.value + error
        write_json(folder.records_dir / f"{CELL}.json", record)
        certificate.issue(folder, folder.records())
        parts = {part.name: part for part in verified(home).parts}
        assert parts["numbers"].outcome == outcome
        row.value = value


def test_the_command_says_it_in_few_lines_and_in_its_exit_status(home, monkeypatch, capsys):
    from uasbench import cli

    def bench(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["bench", "verify", str(home / "run"), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    status, text = bench("--data-root", str(home / "data"))
    assert (status, text.splitlines()[-1]) == (0, f"{home / 'run'}: verified")
    assert bench("--data-root", str(home / "nowhere"))[0] == 3
    change_table(home / "run")
    status, text = bench("--tables-only", "--show", "0")
    assert status == 1
    assert "1 more; --json lists all" in text
    status, text = bench("--tables-only", "--json")
    assert json.loads(text)["parts"][-1]["differences"][0]["recorded"] == "0.5"


@pytest.mark.slow
def test_a_run_on_named_cases_is_looked_at_with_these_alone(quick_run, cache, home):
    shutil.rmtree(home / "run")
    options = {"data_root": home / "data", "cache": cache, "profile": "smoke", "seeds": [0], "trials": 1}
    done = quick_run("hu-deviation", "lits", only=["lits:volume-1"], out=home / "run", **options)
    data = done.records[0].data
    assert (data.only, data.excluded, list(data.cases)) == (["lits:volume-1"], [], ["volume-1"])
    found = verified(home)
    assert found.outcome == "verified", "\n".join(found.lines(99))
