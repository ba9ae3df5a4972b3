"""The kind of node that the stages of a run may be bound to: results of others differ in their last bits."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import UasbenchError, brief
from ..common.json_files import read_json
from .instructions import instruction_set

NODE_KIND = "node_kind"
"""The key beside a task's own that names the file with the kind of node on which it must run."""


class NodeKindError(UasbenchError):
    """A stage would run on another kind of node than the first one of its run."""


def node_kind(*, gpu: bool) -> dict[str, str]:
    """Return what tells this node from others: the instructions of its processor, and the model of its GPUs."""
    return {"processor": instruction_set()["numpy"]} | ({"gpu": _gpus()} if gpu else {})


def require(file: Path, task: Mapping[str, Any]) -> None:
    """Refuse a stage on another kind of node than the first one of its run, which has left its kind beside ``file``.

    Stages on GPUs are compared with each other (``FILE-gpu.json``), and so are those on processors alone
    (``FILE-cpu.json``): both may have nodes of their own.

    Raises:
        NodeKindError: this node is of another kind; the message says which was wanted.
    """
    gpu = task["stage"] != "measure" and (task.get("numerics") or {}).get("device", "cpu") != "cpu"
    file = file.with_name(f"{file.name}-{'gpu' if gpu else 'cpu'}.json")
    here, host = node_kind(gpu=gpu), os.uname().nodename
    new = file.with_name(f".{file.name}-{host}-{os.getpid()}")
    new.write_text(json.dumps({"host": host, "kind": here}), encoding="utf-8")
    try:
        os.link(new, file)  # whole or not at all, and of one node alone, also on NFS
    except FileExistsError:
        pass
    finally:
        new.unlink()
    try:
        first = read_json(file)
        began, before = first["host"], {name: first["kind"][name] for name in here}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NodeKindError(
            f"{file} cannot be read ({brief(error)}); delete it, and the next stage writes it"
        ) from error
    if other := [f"{name} {before[name]}, here {here[name]}" for name in here if before[name] != here[name]]:
        raise NodeKindError(
            f"{host} is another kind of node than {began}, which began this run: {'; '.join(other)}; "
            "name nodes of one kind (for Slurm --queue constraint=…), or leave out --require-same-node-kind"
        )


def _gpus() -> str:
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return ", ".join(sorted({str(pynvml.nvmlDeviceGetName(handle)) for handle in handles}))
    except pynvml.NVMLError:
        return "unknown"
