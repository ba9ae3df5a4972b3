"""Methods that misbehave, by name: what stands in their class, beside a ``fit`` and a ``score`` that do no harm."""

from collections.abc import Collection, Iterable

HEAD = """
import os, signal, subprocess, sys, threading, time
import numpy as np
from uasbench import Method, MethodCard
{before}
class Hostile(Method):
    card = MethodCard(name="hostile", title="Hostile")
    def fit(self, healthy, ctx):
        pass
    def score(self, case):
        return np.abs(case.image).astype(np.float32)
{body}
"""


def _fit(code: str) -> str:
    return f"    def fit(self, healthy, ctx):\n        {code}\n"


def _score(code: str) -> str:
    return f"    def score(self, case):\n        {code}\n"


BODIES = {
    "raises in fit": _fit("raise RuntimeError('broken')"),
    "raises in score": _score("raise RuntimeError('broken')"),
    "leaves in fit": _fit("sys.exit(0)"),
    "leaves without a word": _fit("os._exit(0)"),
    "interrupts": _fit("raise KeyboardInterrupt"),
    "crashes": _score("os.kill(os.getpid(), signal.SIGSEGV)"),
    "hangs": _fit("time.sleep(9999)"),
    "ignores SIGTERM": _fit("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(9999)"),
    "leaves a thread": _fit("threading.Thread(target=time.sleep, args=(9999,)).start()"),
    "leaves a process": _fit("subprocess.Popen(['sleep', '600'])"),
    "kills the fork server": _fit("os.kill(os.getppid(), signal.SIGKILL)"),
    "returns NaN": _score("return np.full(case.image.shape, np.nan, np.float32)"),
    "returns another shape": _score("return np.zeros((1, 2, 3), np.float32)"),
    "returns None": _score("return None"),
    "changes the scan": _score("case.image[:] = 0; case.roi[:] = True; return case.image"),
    "odd min_patients": "    min_patients = 'many'\n",
    "odd members": "    members = 0\n",
    "odd view": "    view = 3\n",
    "huge view": "    from uasbench import View\n    view = View(size=10**6)\n",
    "leaves in skip": "    def skip(self):\n        sys.exit(0)\n",
    "odd requires": "    requires = 'torch'\n",
    "markup in the reason": "    def skip(self):\n        return '[bold]<b>\\x1b[31m$x$'\n",
    "odd threshold": "    native_threshold = 'high'\n",
}
HOSTILE = {name: HEAD.format(before="", body=body) for name, body in BODIES.items()}
HOSTILE |= {
    "raises at import": HEAD.format(before="raise RuntimeError('broken')", body=""),
    "leaves at import": HEAD.format(before="sys.exit(0)", body=""),
    "is no Python": "class Hostile(:",
}


def _module(name: str) -> str:
    return "hostile_" + "".join(letter if letter.isalnum() else "_" for letter in name)


def files(names: Iterable[str]) -> dict[str, str]:
    """Return the modules of plug-ins, by file name."""
    return {f"{_module(name)}.py": HOSTILE[name] for name in names}


def points(names: Collection[str]) -> dict[str, str]:
    """Return the entry point of a plug-in: name to class."""
    (name,) = names
    return {"hostile": f"{_module(name)}:Hostile"}
