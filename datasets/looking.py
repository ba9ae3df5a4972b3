"""What lies below a data root of one set, looked for where a crash of a package's adapter does no harm."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..common.errors import UasbenchError, shortened, summary
from ..common.package import NAME
from .adapters.surveying import SurveyedDataset
from .dataset import CaseRef, Dataset
from .readers import Lost, Readers


@dataclass(frozen=True)
class Found:
    """What a set has below a folder: its cases, what stops a run, and remarks.

    ``dataset`` is the adapter that knows these cases; ``absent`` says that nothing there looks like the set.
    """

    dataset: Dataset
    refs: tuple[CaseRef, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    absent: bool = False


def look(dataset: Dataset, root: Path, readers: Readers | None = None) -> Found:
    """Discover the cases of a set; whatever goes wrong is a problem of what is found.

    Most adapters of this package look at names and tables alone, in this process (a test says so). One that counts
    voxels and that of another package, which may open files, look in a reader where there are some, and come back from
    there, so that they have to be picklable.
    """
    own = type(dataset).__module__.startswith(f"{NAME}.")
    if readers is None or (own and not dataset.counts_voxels):
        return _look(dataset, root)
    found = readers.one(partial(_look, root=root), dataset)
    if isinstance(found, Lost):
        return Found(dataset, problems=(f"{root}: the adapter of {dataset.card.name} failed: {found.reason}",))
    return found


def _look(dataset: Dataset, root: Path) -> Found:
    if isinstance(dataset, SurveyedDataset):
        survey = dataset.survey(root)
        dataset.notes = notes = tuple(survey.notes)
        return Found(dataset, tuple(survey.refs), tuple(survey.problems), notes, survey.absent)
    absent = dataset.card.wraps is None and not (root / dataset.card.name).is_dir()
    try:
        refs = tuple(dataset.discover(root))
    except UasbenchError as error:
        return Found(dataset, problems=(str(error),), absent=absent)
    except (Exception, SystemExit) as error:
        text = f"{root}: {shortened(summary(error))}, in the adapter of {dataset.card.name}"
        return Found(dataset, problems=(text,), absent=absent)
    return Found(dataset, refs, (), tuple(getattr(dataset, "notes", ())))
