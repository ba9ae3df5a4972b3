"""An executor for tests that look at what stages do and not at where they run."""

import json
from pathlib import Path
from typing import Any

from uasbench.benchmark.executors.contract import Job, Place, Report
from uasbench.benchmark.stages.apart import Here
from uasbench.benchmark.stages.worker import run_stage
from uasbench.common.errors import summary


class InProcess:
    """Runs stages in this process, because starting others takes longer than the stages."""

    def __init__(self, place: Place) -> None:
        self.found: list[Report] = []

    def room(self) -> int:
        return 1

    def attach(self, jobs: Any) -> tuple[str, ...]:
        return ()

    def submit(self, job: Job) -> None:
        task = json.loads(job.text)
        written = [Path(task[name]) for name in ("out", "maps") if name in task]
        assert all(path.is_absolute() for path in written), "workers have another working directory"
        try:
            run_stage(job.text, Here(lambda done, total: None))
            outcome = Report(job.id, "done")
        except Exception as error:
            outcome = Report(job.id, "failed", summary(error))
        self.found += [Report(job.id, "started"), outcome]

    def reports(self, timeout: float) -> list[Report]:
        found, self.found = self.found, []
        return found

    def stop(self, job: str) -> None: ...

    def close(self) -> None: ...
