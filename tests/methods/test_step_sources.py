"""What updates run copies nothing between host and device but by ``sent`` and asks for no number, read from the source.

Tests on the CPU cannot see such copies: they do nothing there. Nor do they see which optimisers a GPU would fuse.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from uasbench.methods.context import FitContext
from uasbench.methods.training import make_optimiser

ROOT = Path(__file__).resolve().parents[2] / "methods"
STARTS = {"step", "draw", "loss_of", "losses_of", "forward", "__call__", "__next__", "<lambda>"}
COPYING = {"from_numpy", "as_tensor", "tensor", "cpu", "cuda", "numpy", "item", "tolist", "pin_memory", "nonzero"}
# Names by which updates call something of PyTorch, or which begin and store a training; and two of scoring.
TRAINING = {"__init__", "build", "batch_source", "fit", "train", "_train", "load", "save", "fill", "restore"}
ELSEWHERE = TRAINING | {"state_dict", "load_state_dict", "seen", "maps"}
ALLOWED = {
    "resident.py": {"sent"},
    "ahead.py": {"sent"},  # after a kill
    "features/padim.py": {"embed"},  # these two make one pass and no updates
    "features/parts/patches.py": {"batches_of", "patches"},
    "pseudo_anomaly/parts/augmented_slices.py": {"losses_of"},  # focal_on_empty=off
    "synthesis/layered_lesions.py": {"_ellipsoid"},  # of NumPy
    "synthesis/shift.py": {"_draw", "_masks", "_move"},  # on the CPU; rejection; placement=roi
    "synthesis/simplex.py": {"_sum"},  # on the CPU
    "synthesis/lung_lesions_torch.py": {  # NormNet's lesions
        *("_column", "_fill", "brightness_factors", "filtered_salt", "gaussian_matrices", "generate"),
        *("painted_voxels", "shapes"),
    },
}  # fmt: skip


class Function(NamedTuple):
    file: str
    name: str
    node: ast.FunctionDef | ast.Lambda
    of: type[ast.AST]


def functions(file: str, node: ast.AST) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            yield Function(file, getattr(child, "name", "<lambda>"), child, type(node))
        yield from functions(file, child)


def own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield child
            yield from own(child)


def decorators(function: Function) -> str:
    return " ".join(map(ast.unparse, getattr(function.node, "decorator_list", ())))


def starts(function: Function) -> bool:
    generates = any(isinstance(part, ast.Yield) for part in own(function.node)) and not decorators(function)
    return function.name in STARTS or generates


def reached(known: list[Function]) -> Iterator[Function]:
    """What updates call, by name: of any class or file where it has a dot before it, else of its own file first.

    What is cached runs the first time alone.
    """
    queue, seen = [*filter(starts, known)], set[ast.AST]()
    while queue:
        function = queue.pop()
        if function.node in seen or function.name in ELSEWHERE or "cache" in decorators(function):
            continue
        seen.add(function.node)
        yield function
        for call in (part.func for part in own(function.node) if isinstance(part, ast.Call)):
            if isinstance(call, ast.Attribute):
                queue += [f for f in known if f.name == call.attr and f.of is not ast.FunctionDef]
            elif isinstance(call, ast.Name):
                named = [f for f in known if f.name == call.id]
                here = [f for f in named if f.file == function.file]
                queue += here or [f for f in named if f.of is ast.Module]


def copies(node: ast.AST) -> bool:
    for call in (part for part in own(node) if isinstance(part, ast.Call)):
        to = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "device")]
        match call.func:
            case ast.Name("bool"):
                return True
            case ast.Attribute(_, "to") if to and not ast.unparse(to[0]).startswith("torch."):
                if not ast.unparse(to[0]).endswith(".dtype"):
                    return True
            case ast.Attribute(_, name) | ast.Name(name) if name in COPYING:
                return True
    return False


def test_updates_copy_nothing_and_ask_for_nothing_but_where_it_is_known():
    known: list[Function] = []
    for path in sorted(ROOT.rglob("*.py")):
        known += functions(path.relative_to(ROOT).as_posix(), ast.parse(path.read_bytes()))
    found: dict[str, set[str]] = {}
    for function in reached(known):
        if copies(function.node):
            found.setdefault(function.file, set()).add(function.name)
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("torch.from_numpy(x)", True),
        ("x.to(ctx.device)", True),
        ("x.to(device=ctx.device)", True),
        ("x.loss.item()", True),
        ("bool(masks.any())", True),
        ("torch.tensor([1], device=d)", True),
        ("x.to(torch.uint8)", False),
        ("x.to(clean.dtype)", False),
        ("net.to(memory_format=layout)", False),
        ("sent(x, d)", False),
    ],
)
def test_copies_are_seen_through_calls_and_from_other_files(line, wrong):
    sources = {
        "a.py": "def fit(self):\n def step(_):\n  return self.loss(1)",
        "b.py": "class A:\n def loss(self, x):\n  return helper(x)",
        "c.py": f"def helper(x):\n return {line}",
    }
    known = [f for file, text in sources.items() for f in functions(file, ast.parse(text))]
    assert [f.name for f in reached(known)] == ["step", "loss", "helper"]
    assert any(copies(f.node) for f in reached(known)) is wrong


def test_optimisers_are_made_in_one_place():
    calls = [
        f"{path.name}:{node.lineno}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[0] in ("torch.optim", "optim")
    ]
    assert calls == []


@pytest.mark.parametrize(
    ("device", "kind", "fused"),
    [("cuda:1", "Adam", True), ("cuda", "SGD", True), ("cuda", "RMSprop", None), ("cpu", "AdamW", None)],
)
def test_optimisers_are_fused_on_a_gpu_where_there_are_such(device, kind, fused):
    context = FitContext(0, device=device)
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    optimiser = make_optimiser(context, getattr(torch.optim, kind), parameters, lr=0.1)
    assert context.kept == [optimiser]
    (group,) = optimiser.param_groups
    assert (group.get("fused"), group["lr"]) == (fused, 0.1)
    assert make_optimiser(context, torch.optim.Adam, parameters, fused=True).param_groups[0]["fused"]
