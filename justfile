# Every task of a contributor, and what .ci/run calls. Tools in .venv come first where there is one.

export NO_MKDOCS_2_WARNING := "1"
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

[private]
default:
    @{{ just_executable() }} --list --unsorted

# The default suite, or what is named: just test tests/reports -k tables
test *arguments:
    pytest -n 2 --dist worksteal {{ arguments }}

# Endurance: hours of trials, part by part, each call going on where the last one stopped: just endurance -k kills
endurance *arguments:
    pytest -m endurance tests/endurance tests/benchmark/tracking/test_bounds.py {{ arguments }}

# Every experiment at smoke on the phantom: hours; in parts, just experiments -k table2
experiments *arguments:
    pytest -m slow tests/experiments/test_every_experiment.py {{ arguments }}

# What endurance has counted so far, as docs/reliability.md shows it
reliability:
    python tests/endurance/ledger.py

# What panoptica and baycomp find, beside ours: the one would make this environment an older one, the other brings a package "tests"
peers:
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python -m pip install --quiet --no-deps --target "$scratch" 'panoptica>=2.1' plotly ruamel.yaml 'baycomp>=1.0.3'
    rm -r "$scratch/tests"
    export PYTHONPATH=$scratch
    python -c "import panoptica, baycomp"
    pytest tests/benchmark/test_detection.py tests/benchmark/test_equivalence.py -k "panoptica or baycomp"

# The cells of docs/tutorial.ipynb, from the first to the last
tutorial:
    pytest -m slow tests/test_tutorial.py

# A part of the tests that need a GPU, within eight minutes, a line per test in gpu.jsonl: just gpu 1/8
gpu part *arguments:
    timeout 480 pytest -m gpu --part {{ part }} --lines gpu.jsonl {{ arguments }}

# Lines and branches that the default suite reaches
coverage:
    pytest -n 2 --dist worksteal --cov=uasbench --cov-branch --cov-report=term

# Rules and format of the code
lint:
    ruff check .
    ruff format --check .

# The report in Chromium and Firefox, where they are installed
browser:
    pytest tests/reports/viewer/test_browser.py tests/reports/viewer/test_firefox.py

# A run through a Slurm of one node, where root has slurm-wlm and munge
slurm:
    pytest -rs -m slow tests/benchmark/test_slurm_cluster.py -k "tables_of_a_local_one and lits"

# Types of the package
types:
    pyright --pythonpath "$(command -v python)"

# The site, in site/; broken links and names fail
docs:
    mkdocs build --strict --quiet

# The example report of the site, from a smoke run on the phantom
gallery:
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p docs/gallery
    cd "$scratch"
    bench run --methods hu-deviation,hu-opened,ae,two-stage --dataset lits --phantom --profile smoke --seeds 2 --out run
    cp run/report.html "{{ justfile_directory() }}/docs/gallery/"

# Lines for benchmark/catalogue/rates.yaml from a finished run on an idle machine: just rates RUN SOURCE
rates run source:
    #!/usr/bin/env python
    import time
    from pathlib import Path
    from uasbench.benchmark.calibration import seconds
    from uasbench.benchmark.catalogue.rates import harness, measured
    from uasbench.benchmark.runs.folder import RunFolder
    from uasbench.reports.build import build
    folder = RunFolder.open(Path("{{ run }}"))
    records = folder.records()
    started = time.process_time()
    build(folder)
    tables_s = round((time.process_time() - started) / len(records), 3)
    timing = folder.info()["timing"]
    probe_s = round(seconds(timing[-1]["workers"], records[0].cost.threads), 2)
    around = {"probe_s": probe_s, **harness(records, timing), "tables_s": tables_s}
    print("  {{ source }}:", around)
    for rate in measured(records, "{{ source }}"):
        print(rate.line())

# The wheel holds the committed files, and what it installs runs
wheel:
    #!/usr/bin/env bash
    set -euo pipefail
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    git clone --quiet . "$scratch/clone"
    python -m pip wheel --quiet --no-deps --wheel-dir "$scratch" "$scratch/clone"
    python tests/compare_wheel.py "$scratch"/uasbench-*.whl
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install --quiet --no-deps "$scratch"/uasbench-*.whl
    export PYTHONPATH=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cd "$scratch"
    venv/bin/bench list methods
    venv/bin/bench run --methods hu-deviation,ae --dataset lits --phantom --profile smoke --seeds 1 --out run
    test -s run/tables/summary.csv -a -s run/report.html
