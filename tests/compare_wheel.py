"""Compare a wheel with the tracked files: every module and data file of the package, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = (".py", ".yaml", ".csv", ".html", ".j2", ".css", ".js", "py.typed")
OUTSIDE = ("tests/", "docs/", ".ci/", ".github/", ".pre-commit-config.yaml")


def expected() -> set[str]:
    """Return the tracked files that belong into the package."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return {f"uasbench/{name}" for name in tracked if name.endswith(SHIPPED) and not name.startswith(OUTSIDE)}


def main(wheel: Path) -> int:
    """Print the differences and return how many there are."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if name.startswith("uasbench/")}
    differences = [f"missing in the wheel: {n}" for n in sorted(expected() - found)]
    differences += [f"not tracked: {n}" for n in sorted(found - expected())]
    print("\n".join(differences) or f"{wheel.name}: {len(found)} files, as tracked")
    return len(differences)


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
