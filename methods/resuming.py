"""Checkpoints inside a training: what changes in it, on disk every few minutes, so that a kill costs no more.

A resumed training sets itself up as it did before and is then given what had changed: the method's attributes, what
was handed to :meth:`.context.FitContext.keep`, the generators of the process and the points of the curves. On a CPU it
ends with the same bits as one that nobody disturbed.
"""

from __future__ import annotations

import io
import json
import random
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.atomic import write_file
from .state import fill, packed

if TYPE_CHECKING:
    from .context import FitContext
    from .method import Method

EVERY_S = 300.0
CHECKPOINTS = "resume-*.pt"
_DIGEST = 8


class Resumption:
    """The checkpoints of one training in a folder, a file for each of its loops.

    Attributes:
        seconds: how long what was resumed had trained already.
    """

    def __init__(self, method: Method, folder: Path, every_s: float = EVERY_S) -> None:
        self.method = method
        self.folder = folder
        self.every_s = every_s
        self.seconds = 0.0
        self._loops = self._kept_before = 0
        self._started = time.monotonic()

    def loop(self, ctx: FitContext) -> Loop:
        """Return the next loop of the training, with what an interrupted one has left of it."""
        self._loops += 1
        loop = Loop(self, ctx, self.folder / f"resume-{self._loops}.pt", self._kept_before)
        self._kept_before = len(ctx.kept)
        loop.restore()
        return loop

    def clear(self) -> None:
        """Delete all checkpoints: the training has ended."""
        for path in self.folder.glob(CHECKPOINTS):
            path.unlink()

    @property
    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._started


class Loop:
    """A loop of updates whose state is stored now and then.

    Only a loop with an optimiser among what was kept for it is resumed, or one with a model that is fitted without (it
    says ``learns = True``); any other, or one whose state cannot be stored, begins again.

    Attributes:
        done: updates that are done already.
        extra: what the loop itself had stored beside them.
    """

    def __init__(self, of: Resumption | None, ctx: FitContext, path: Path | None = None, kept_before: int = 0) -> None:
        import torch

        self.done = 0
        self.extra: dict[str, Any] = {}
        self._of, self._ctx, self._path = of, ctx, path
        self._kept = list(ctx.kept)
        own = self._kept[kept_before:]
        self._resumable = any(isinstance(t, torch.optim.Optimizer) or getattr(t, "learns", False) is True for t in own)
        self._saved = time.monotonic()
        self._first_point = len(ctx.logged)

    def restore(self) -> None:
        """Go on where the file of an interrupted training says."""
        import torch

        if self._path is None or self._of is None or not self._resumable or (stored := _read(self._path)) is None:
            return
        if stored["kept"] != [type(thing).__name__ for thing in self._kept]:
            return  # of another version of the method
        fill(self._of.method, stored["method"])
        for thing, state in zip(self._kept, stored["states"], strict=True):
            _give(thing, state)
        torch.set_rng_state(stored["torch"])
        for device, state in stored["cuda"].items():
            torch.cuda.set_rng_state(state, device)
        python, numpy = json.loads(stored["process"])
        random.setstate((python[0], tuple(python[1]), python[2]))
        numpy["state"]["key"] = np.array(numpy["state"]["key"], np.uint32)
        np.random.set_state(numpy)
        for step, values in stored["logged"]:
            self._ctx.log(step, **values)
        self.done, self.extra, self._of.seconds = stored["done"], stored["extra"], stored["seconds"]
        self._of._started = self._saved = time.monotonic()
        print(f"resumed after {self.done} updates, {self._of.seconds:.0f} s of training")

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._of is not None and self._resumable and time.monotonic() - self._saved >= self._of.every_s

    def save(self, done: int, extra: Mapping[str, Any] | None = None) -> None:
        """Store the state after ``done`` updates; ``extra`` are tensors, numbers, texts and containers of these."""
        import torch

        assert self._of is not None
        assert self._path is not None
        for thing in self._kept:
            if hasattr(thing, "settle"):
                thing.settle()
        numpy: dict[str, Any] = np.random.get_state(legacy=False)
        numpy["state"]["key"] = numpy["state"]["key"].tolist()
        devices = [self._ctx.device] if self._ctx.device.startswith("cuda") else []
        try:
            content = {
                "done": done,
                "extra": dict(extra or {}),
                "method": packed(self._of.method),
                "kept": [type(thing).__name__ for thing in self._kept],
                "states": [_state(thing) for thing in self._kept],
                "torch": torch.get_rng_state(),
                "cuda": {device: torch.cuda.get_rng_state(device) for device in devices},
                "process": json.dumps([random.getstate(), numpy]),
                "logged": self._ctx.logged[self._first_point :],
                "seconds": self._of.elapsed,
            }
        except TypeError as error:
            self._resumable = False
            print(f"this training cannot be resumed after a stop: {error}")
            return
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getbuffer()
        write_file(self._path, f"{zlib.crc32(data):0{_DIGEST}x}".encode(), data)
        self._saved = time.monotonic()


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file holds, None where there is none; one that is damaged is said so and deleted."""
    import torch

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if f"{zlib.crc32(content):0{_DIGEST}x}".encode() != digest:
        print(f"{path.name} is damaged: this part of the training begins again")
        path.unlink()
        return None
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _state(thing: Any) -> Any:
    import torch

    if isinstance(thing, np.random.Generator):
        return json.dumps(thing.bit_generator.state)
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    return thing.state_dict()


def _give(thing: Any, state: Any) -> None:
    import torch

    if isinstance(thing, np.random.Generator):
        thing.bit_generator.state = json.loads(state)
    elif isinstance(thing, torch.Generator):
        thing.set_state(state)
    else:
        thing.load_state_dict(state)
