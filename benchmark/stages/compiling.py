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

from ...common.errors import shortened
from ...methods.state import modules
from .wall import COMPILERS

if TYPE_CHECKING:
    from ...methods.method import Method

GAVE_UP = "resume-eager.pt"
"""Why a training began again without compiling, as a text, so that one that is killed then goes on without, too."""


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
    mode = "reduce-overhead" if method.device.startswith("cuda") else None
    for network in modules(method).values():
        for part in (network, *network.children()):
            part.compile(mode=mode, dynamic=False)


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


def at_fault(error: BaseException) -> bool:
    """Tell whether the compiler raised an error, or what is raised names it, as for gradients of gradients."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor")) or "torch.compile" in str(error)


def outcome(method: Method) -> dict[str, Any]:
    """Return what was compiled since :func:`compile_networks`: graphs, breaks, seconds, and what ran as it is and why.

    ``eager`` has the reasons: the first error of a frame, the first break, the networks that came too late.
    """
    from torch._dynamo.utils import counters, get_compilation_metrics

    metrics = get_compilation_metrics()
    total, ok = (counters["frames"][name] for name in ("total", "ok"))
    errors = [m.fail_reason or m.fail_type for m in metrics if m.fail_type]
    reasons = [shortened(text) for text in (*errors[:1], *list(counters["graph_break"])[:1])]
    if not total:
        reasons.append("no update of run_updates called a network")
    late = [name for name, network in modules(method).items() if network._compiled_call_impl is None]
    return {
        "frames": ok,
        "eager_frames": total - ok,
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "without_cuda_graphs": counters["inductor"]["cudagraph_skips"],
        "seconds": sum(m.duration_us or 0 for m in metrics) / 1e6,
        "eager": [*reasons, *(f"{name} was made after the others" for name in late)],
    }


def in_words(found: Mapping[str, Any]) -> str:
    """Return an outcome as a text, without its seconds, which are never the same.

    >>> in_words({"frames": 2, "graphs": 3, "graph_breaks": 1, "eager_frames": 0, "eager": ["a list"]})
    'graphs: 3, graph breaks: 1 (a list)'
    >>> in_words({"eager": ["no compiler"]})
    'nothing (no compiler)'
    """
    counted = [name for name in ("graphs", "graph_breaks", "eager_frames", "without_cuda_graphs") if found.get(name)]
    counts = ", ".join(f"{name.replace('_', ' ')}: {found[name]}" for name in counted)
    return (counts if found.get("frames") else "nothing") + "".join(f" ({reason})" for reason in found["eager"])
