"""Does a training that is killed go on from its last checkpoint, and end as if nobody had disturbed it?"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..stages import drive
from .subject import NotApplicable, Subject


class _Killed(BaseException):
    pass


def resumed(subject: Subject) -> str:
    """A training that is killed within each of its loops ends with the same maps as one that is not."""
    kills, method = 0, None
    with tempfile.TemporaryDirectory() as folder:
        while method is None:
            loops: list[int] = []

            def kill_within_the_next_loop(done: int, total: int, loops: list[int] = loops, kills: int = kills) -> None:
                if done == 1:
                    loops.append(total)
                if len(loops) > kills and done < total:
                    raise _Killed

            with suppress(_Killed):
                method = _train(subject, Path(folder), kill_within_the_next_loop)
            if method is None:
                if not any(Path(folder).iterdir()):
                    raise NotApplicable("a killed training begins again: it has no loop with ctx.keep(optimiser)")
                kills += 1
    if not kills:
        raise NotApplicable("its training has no loop of several updates")
    subject.same(
        subject.maps(method), "a killed training ends otherwise; give ctx.keep() all that changes with the updates"
    )
    return f"killed {kills} times and resumed, a training gives the same maps"


def _train(subject: Subject, folder: Path, on_progress: Any) -> Any:
    context = subject.context(0, unlabelled=subject.unlabelled(), on_progress=on_progress)
    return drive.train(subject.cls, subject.config(), subject.scans(), context, folder, every_s=0)[0]
