"""Trainings whose networks are compiled by ``torch.compile``, and what became of it.

A method knows nothing of it: the networks that it has built are compiled in place, with the shapes of its batches, and
what cannot be compiled runs as it is. Only updates run compiled (:func:`...methods.training.updating`): watching,
validating and what follows a loop would compile the same networks once more each.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ...common.errors import UasbenchError, shortened
from ...methods.context import LoopOverError, TrainingError
from ...methods.state import modules
from .wall import COMPILERS

if TYPE_CHECKING:
    from ...methods.method import Method

GAVE_UP = "resume-plain.pt"
"""The outcome of a training that began again without compiling, as JSON: one that is killed then goes on without."""
METRICS = 4096
"""Compilations that PyTorch remembers; it would be 64, and the seconds of the others would be lost."""


def missing() -> str | None:
    """Return why nothing can be compiled here, or None."""
    import torch
    import torch._inductor.config

    known = hasattr(torch._inductor.config, "deterministic")  # also later than set_stance
    return None if known else f"the compiler of PyTorch {torch.__version__} has no deterministic mode"


def compile_networks(method: Method) -> None:
    """Compile the networks of a method in place, and their parts, which it may call alone; CUDA graphs are captured."""
    import torch
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    torch._inductor.config.deterministic = True  # no kernel is chosen by how fast it was, where sums would differ
    torch._inductor.config.fallback_random = True  # dropout draws what it would draw
    torch._inductor.config.compile_threads = 1  # pyright: ignore[reportAttributeAccessIssue]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch._dynamo.utils.clear_compilation_metrics()
    torch._dynamo.utils.set_compilation_metrics_limit(METRICS)
    mode = "reduce-overhead" if method.device.startswith("cuda") else None
    for network in modules(method).values():
        for part in (network, *network.children()):
            part.compile(mode=mode, dynamic=False)


def forget() -> None:
    """Drop what was compiled, and the memory that CUDA graphs hold."""
    import torch._dynamo

    torch._dynamo.reset()


def beside_updates(*, compiled: bool) -> AbstractContextManager[Any]:
    """Return the context of a fit, in which nothing compiled is used but where an update asks for it."""
    import torch

    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def cache(*, shared: bool) -> Iterator[None]:
    """Keep compiled code where the wall says, or, if it is not to be ``shared``, in a folder of its own for a while.

    What has met labels or test scans, and plug-ins, leave nothing that another stage would run.
    """
    if shared:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {name: f"{folder}/{part}" for name, part in COMPILERS.items()}
        yield


def suspected(error: Exception) -> bool:
    """Tell whether an error may come from compiled code: all but what no other code would mend.

    Its type does not tell: gradients of gradients and the capture of CUDA graphs raise ``RuntimeError``.
    """
    import torch

    return not isinstance(error, TrainingError | LoopOverError | UasbenchError | MemoryError | torch.OutOfMemoryError)


class Earlier:
    """What was compiled for a training before it was resumed: its state is that of the checkpoints."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return _counted(self.found)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found = state | {"resumptions": state.get("resumptions", 0) + 1}


def outcome(method: Method, earlier: Earlier | None = None) -> dict[str, Any]:
    """Return what was compiled since :func:`compile_networks`: graphs, breaks, seconds, and what ran as it is and why.

    What a resumed training had compiled ``earlier`` is added, with the number of its ``resumptions``; each compiles
    anew. A frame is the code of a class for one kind of input, or, if eager, for all that come after it: of parts of
    one class PyTorch compiles eight. ``eager`` has the reasons: the first error of a frame, the first break, the first
    refusal of CUDA graphs, the networks that came too late.
    """
    found = _counted(earlier.found if earlier else {})
    late = [name for name, network in modules(method).items() if network._compiled_call_impl is None]
    none = [] if found["frames"] or found["eager_frames"] else ["no update of run_updates called a network"]
    return found | {"eager": [*found["eager"], *none, *(f"{name} was made after the others" for name in late)]}


def _counted(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts and reasons of this process, and those before it."""
    from torch._dynamo.utils import counters, get_compilation_metrics

    metrics = get_compilation_metrics()
    errors = [m.fail_reason or m.fail_type for m in metrics if m.fail_type]
    refusals = [why for m in metrics if (why := getattr(m, "cudagraph_skip_reason", None))]
    reasons = [shortened(text) for text in (*errors[:1], *list(counters["graph_break"])[:1], *refusals[:1])]
    ok = counters["frames"]["ok"]
    counts = {
        "frames": ok,
        "eager_frames": counters["frames"]["total"] - ok,
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "without_cuda_graphs": counters["inductor"]["cudagraph_skips"],
        "seconds": sum(m.duration_us or 0 for m in metrics) / 1e6,
    }
    added = {name: before.get(name, 0) + count for name, count in counts.items()}
    return {**before, **added, "eager": list(dict.fromkeys([*before.get("eager", []), *reasons]))}


def in_words(found: Mapping[str, Any]) -> str:
    """Return an outcome as a text, without its seconds, which are never the same.

    >>> in_words({"frames": 2, "graphs": 3, "graph_breaks": 1, "eager_frames": 0, "eager": ["a list"]})
    'graphs: 3, graph breaks: 1 (a list)'
    >>> in_words({"eager": ["no compiler"]})
    'nothing (no compiler)'
    """
    names = ("graphs", "graph_breaks", "eager_frames", "without_cuda_graphs", "resumptions")
    counted = [name for name in names if found.get(name)]
    counts = ", ".join(f"{name.replace('_', ' ')}: {found[name]}" for name in counted)
    return (counts if found.get("frames") else "nothing") + "".join(f" ({reason})" for reason in found["eager"])
