"""Plug-ins that misbehave, each in one way, and what has to become of them; no other method may notice.

``HOSTILE`` maps a name to a behaviour. Each is a module of its own, which :func:`files` writes and :func:`points`
registers; whoever runs them adds a method that behaves.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["broken", "failed", "skipped", "harmless"]


@dataclass(frozen=True)
class Hostile:
    """What the class of a plug-in says beside its card (``body``), and the module before it (``top``).

    It is ``broken`` (listed so, and refused by name), ``failed`` (a row, from ``stage``), ``skipped`` (a row) or
    ``harmless`` (its cell is finished); ``says`` is a regular expression on the reason. A ``slow`` one takes as long as
    its limit of time.
    """

    outcome: Outcome
    body: str = ""
    says: str = ""
    stage: Literal["plan", "fit", "map", "measure"] = "plan"
    top: str = ""
    card: str = ""
    slow: bool = field(default=False)


def _attribute(name: str, value: str, says: str, outcome: Outcome = "failed", top: str = "") -> Hostile:
    return Hostile(outcome, f"{name} = {value}", says, top=top)


def _asked(name: str, code: str, says: str, outcome: Outcome = "failed", top: str = "") -> Hostile:
    return Hostile(outcome, f"@property\ndef {name}(self):\n    {code}", says, top=top)


def _method(name: str, code: str, says: str, outcome: Outcome = "failed", top: str = "") -> Hostile:
    return Hostile(outcome, f"def {name}(self):\n    {code}", says, top=top)


def _fit(code: str, says: str, outcome: Outcome = "failed", *, slow: bool = False) -> Hostile:
    return Hostile(outcome, f"def fit(self, healthy, ctx):\n    {code}", says, "fit", slow=slow)


def _score(code: str, says: str, outcome: Outcome = "failed") -> Hostile:
    return Hostile(outcome, f"def score(self, case):\n    {code}", says, "map")


def _card(card: str, says: str) -> Hostile:
    return Hostile("broken", says=says, card=card)


def _module(top: str, says: str) -> Hostile:
    return Hostile("broken", says=says, top=top)


SETTINGS = "@dataclass(frozen=True)\nclass Settings(Config):\n    "
SPEECHLESS = "class Speechless(Exception):\n    def __str__(self):\n        raise ValueError\n"
NUMBERS = "return np.abs(case.image).astype(np.float32)"
BAD_MEMBERS = "its members is .*; return None, a number from 1 to 100"

VIEWS = {
    "view-text": _attribute("view", "'slices'", "its view is 'slices'; return a View"),
    "view-class": _attribute("view", "View", "its view is <class"),
    "view-number": _attribute("view", "256", "its view is 256"),
    "view-dictionary": _attribute("view", "{'size': 64}", "its view is {'size': 64}"),
    "view-size-negative": _attribute("view", "View(size=-1)", "view size -1: use at least 1 pixel"),
    "view-size-zero": _attribute("view", "View(size=0)", "view size 0: use at least 1 pixel"),
    "view-size-huge": _attribute("view", "View(size=10**6)", "view size 1000000: .*at most 4096"),
    "view-size-text": _attribute("view", "View(size='64')", "its view has size='64': .*valid integer"),
    "view-size-fraction": _attribute("view", "View(size=64.5)", "its view has size=64.5"),
    "view-size-truth": _attribute("view", "View(size=True)", "its view has size=True"),
    "view-size-none": _attribute("view", "View(size=None)", "its view has size=None"),
    "view-window-list": _attribute("view", "View(window=[-200.0, 250.0])", r"its view has window=\[-200"),
    "view-window-long": _attribute("view", "View(window=(1.0, 2.0, 3.0))", r"its view has window=\(1"),
    "view-window-reversed": _attribute("view", "View(window=(250.0, -200.0))", "the first value must be below"),
    "view-window-nan": _attribute("view", "View(window=(float('nan'), 250.0))", "the first value must be below"),
    "view-window-endless": _attribute("view", "View(window=(float('-inf'), 1.0))", "the first value must be below"),
    "view-window-missing": _attribute("view", "View(window=None)", 'needs grey="slice"'),
    "view-grey": _attribute("view", "View(grey='grey')", "its view has grey='grey'"),
    "view-dtype": _attribute("view", "View(dtype='complex64')", "its view has dtype='complex64'"),
    "view-resize": _attribute("view", "View(resize=None)", "its view has resize=None"),
    "view-field-negative": _attribute("view", "View(field_of_view=-1.0)", "use more than 0 mm"),
    "view-field-endless": _attribute("view", "View(field_of_view=float('inf'))", "use more than 0 mm"),
    "view-spacing-zero": _attribute("view", "VolumeView(spacing=(0.0, 1.0, 1.0))", "three positive numbers"),
    "view-spacing-tiny": _attribute("view", "VolumeView(spacing=(1e-9, 1.0, 1.0))", "use at least 0.05 mm"),
    "view-spacing-short": _attribute("view", "VolumeView(spacing=(1.0,))", r"its view has spacing=\(1.0,\)"),
    "view-reduce-zero": _attribute("view", "VolumeView(reduce=0)", "reduce 0"),
    "view-reduce-huge": _attribute("view", "VolumeView(reduce=10**5)", "at most 4096"),
    "view-unhashable": _attribute("view", "Odd(size=8)", "unhashable", top="class Odd(View):\n    __hash__ = None\n"),
    "view-raises": _asked("view", "raise RuntimeError('no view today')", "RuntimeError: no view today"),
    "view-ends": _asked("view", "os._exit(3)", r"it ends the interpreter \(exit status 3\)"),
    "view-exits": _asked("view", "sys.exit(3)", r"it raised SystemExit\(3\)"),
}

ANSWERS = {
    "patients-text": _attribute("min_patients", "'3'", "its min_patients is '3'"),
    "patients-none": _attribute("min_patients", "None", "its min_patients is None"),
    "patients-nan": _attribute("min_patients", "float('nan')", "its min_patients is nan"),
    "patients-negative": _attribute("min_patients", "-1", "its min_patients is -1"),
    "patients-many": _attribute("min_patients", "1000", "learns from 1000 healthy patients or more", "skipped"),
    "patients-numpy": _attribute("min_patients", "np.int64(1)", "", "harmless"),
    "members-none-at-all": _attribute("members", "0", BAD_MEMBERS),
    "members-negative": _attribute("members", "-2", BAD_MEMBERS),
    "members-text": _attribute("members", "'3'", BAD_MEMBERS),
    "members-fraction": _attribute("members", "1.5", BAD_MEMBERS),
    "members-truth": _attribute("members", "True", BAD_MEMBERS),
    "members-empty": _attribute("members", "()", BAD_MEMBERS),
    "members-twice": _attribute("members", "(0, 0)", BAD_MEMBERS),
    "members-below-zero": _attribute("members", "(-1, 0)", BAD_MEMBERS),
    "members-endless": _attribute("members", "10**9", BAD_MEMBERS),
    "members-raises": _asked("members", "return 1 // 0", "ZeroDivisionError"),
    "members-list": _attribute("members", "[0, 1]", "", "harmless"),
    "region-elsewhere": _attribute("region", "'everywhere'", "its region is 'everywhere'; return roi or slices"),
    "region-list": _attribute("region", "['roi']", r"its region is \['roi'\]"),
    "requires-text": _attribute("requires", "'torch'", "", "harmless"),
    "requires-missing": _attribute(
        "requires", "'package_that_nobody_has'", "pip install package_that_nobody_has$", "skipped"
    ),
    "requires-nonsense": _attribute("requires", "('../x y',)", r"needs \.\./x y", "skipped"),
    "requires-number": _attribute("requires", "3", "its requires is 3"),
    "requires-none": _attribute("requires", "None", "its requires is None"),
    "requires-empty": _attribute("requires", "('',)", r"its requires is \('',\)"),
    "skip-exits": _method("skip", "sys.exit(3)", r"it raised SystemExit\(3\)"),
    "skip-interrupts": _method("skip", "raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
    "skip-generator-exit": _method("skip", "raise GeneratorExit", "it raised GeneratorExit"),
    "skip-stops-iteration": _method("skip", "raise StopIteration", "StopIteration"),
    "skip-base-exception": _method(
        "skip", "raise Odd", "it raised Odd", top="class Odd(BaseException):\n    pass\n"
    ),
    "skip-ends": _method("skip", "os._exit(0)", r"it ends the interpreter \(exit status 0\)"),
    "skip-segfaults": _method("skip", "ctypes.string_at(0)", r"it ends the interpreter \(SIGSEGV\)"),
    "skip-hangs-in-compiled-code": Hostile(
        "failed", "def skip(self):\n    ctypes.CDLL(None).pause(); ctypes.CDLL(None).sleep(10**6)",
        "did not come back within 60 s", slow=True,
    ),
    "skip-raises": _method("skip", "raise ValueError('what now')", "ValueError: what now"),
    "skip-raises-in-colour": _method("skip", "raise ValueError('\\x1b[31mred')", r"ValueError: \\x1b\[31mred"),
    "skip-raises-endlessly": _method("skip", "raise ValueError('x' * 10**6)", r"^.{0,300}…$"),
    "skip-raises-speechless": _method("skip", "raise Speechless", "^Speechless$", top=SPEECHLESS),
    "skip-refuses-as-we-do": _method(
        "skip", "raise DataError('no scans')", "no scans", top="from uasbench.common.errors import DataError\n"
    ),
    "skip-number": _method("skip", "return 3", "^3$", "skipped"),
    "skip-in-colour": _method("skip", "return '\\x1b]0;title\\x07no'", r"^\\x1b\]0;title\\x07no$", "skipped"),
    "skip-endless": _method("skip", "return 'x' * 10**6", "^x{999}…$", "skipped"),
    "skip-speechless": _method("skip", "return Speechless()", "ValueError", top=SPEECHLESS),
    "skip-recursion": _method("skip", "return self.skip()", "RecursionError"),
    "skip-sleeps": Hostile(
        "failed", "def skip(self):\n    time.sleep(600)", "did not come back within 60 s", slow=True
    ),
    "identity-exits": _method("extra_identity", "sys.exit()", r"it raised SystemExit\(None\)"),
    "identity-aborts": _method("extra_identity", "os.abort()", r"it ends the interpreter \(SIGABRT\)"),
    "identity-none": _method("extra_identity", "return None", r"its extra_identity\(\) returned None; return text"),
    "identity-object": _method("extra_identity", "return object()", r"its extra_identity\(\) returned <object"),
    "identity-missing": _method(
        "extra_identity", "raise DataError('no weights')", "^no weights$", "skipped",
        "from uasbench.common.errors import DataError\n",
    ),
    "constructor-raises": Hostile("failed", "def __init__(self, config=None):\n    raise OSError('no')", "OSError: no"),
    "constructor-exits": Hostile(
        "failed", "def __init__(self, config=None):\n    sys.exit('bye')", r"SystemExit\('bye'\)"
    ),
    "constructor-ends": Hostile("failed", "def __init__(self, config=None):\n    os._exit(0)", "ends the interpreter"),
    "constructor-deaf": Hostile("failed", "def __init__(self):\n    pass", "TypeError"),
    "config-number": _attribute("Config", "int", "TypeError"),
    "config-plain": _attribute("Config", "Plain", "TypeError", top="class Plain:\n    profiles = anatomies = {}\n"),
    "config-object": _attribute("Config", "Settings", "cannot be written", top=f"{SETTINGS}x: object = np.float32\n"),
    "config-set": _attribute(
        "Config", "Settings", "cannot be written", top=f"{SETTINGS}x: frozenset = frozenset('ab')\n"
    ),
    "config-exits": _attribute(
        "Config", "Settings", "SystemExit", top=f"{SETTINGS}def __post_init__(self):\n        sys.exit(1)\n"
    ),
    "config-ends": _attribute(
        "Config", "Settings", "ends the interpreter", top=f"{SETTINGS}def __post_init__(self):\n        os._exit(1)\n"
    ),
    "config-unknown-type": _attribute("Config", "Settings", "NameError", top=f"{SETTINGS}x: 'Nowhere' = 1\n"),
    "profiles-number": _attribute("Config", "Settings", "AttributeError", top=f"{SETTINGS}profiles = 3\n"),
    "profiles-unknown-field": _attribute(
        "Config", "Settings", "unexpected keyword", top=f"{SETTINGS}profiles = {{'smoke': {{'nope': 1}}}}\n"
    ),
}  # fmt: skip

IMPORTS = {
    "import-raises": _module("raise RuntimeError('no')\n", "RuntimeError: no"),
    "import-exits": _module("sys.exit(3)\n", "SystemExit: 3"),
    "import-interrupts": _module("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "import-in-colour": _module("raise RuntimeError('\\x1b[31mred')\n", r"RuntimeError: \\x1b\[31mred"),
    "import-ends": _module("os._exit(0)\n", r"it ends the interpreter \(exit status 0\)"),
    "import-aborts": _module("os.abort()\n", r"it ends the interpreter \(SIGABRT\)"),
    "import-segfaults": _module("ctypes.string_at(0)\n", r"it ends the interpreter \(SIGSEGV\)"),
    "import-kills-its-parent": _module(
        "os.getppid() > 1 and os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)\n", "it ends the interpreter"
    ),
    "import-misspelt": _module("import package_that_nobody_has\n", "ModuleNotFoundError"),
    "import-syntax": _module("def\n", "SyntaxError"),
    "card-missing": Hostile("broken", "card = None", "has no card"),
    "card-of-another": Hostile("broken", "card = MethodCard(name='another', title='A')", "its card is named 'another'"),
    "card-name-path": Hostile("broken", "card = MethodCard(name='../x', title='X')", "use lower-case letters"),
    "card-seeds-text": _card("min_seeds='three'", "min_seeds 'three'"),
    "card-seeds-zero": _card("min_seeds=0", "min_seeds 0"),
    "card-title-in-colour": _card("notes='\\x1b[31m'", "notes .*control characters"),
    "card-notes-number": _card("notes=3", "notes 3"),
    "card-uses": _card("uses='everything'", "uses 'everything'"),
    "card-supervision": _card("supervision=None", "supervision None"),
    "card-anatomy-number": _card("anatomy=3", "anatomy 3"),
    "card-anatomy-unknown": _card("anatomy=('brain',)", "brain"),
    "card-slice-score": _card("slice_score=('meanpool', 0)", "slice_score"),
    "card-of-a-top-line": _card("uses='labels'", "register it under 'uasbench.toplines'"),
}

STAGES = {
    "build-raises": Hostile(
        "failed", "def build(self):\n    raise RuntimeError('no net')", "RuntimeError: no net", "fit"
    ),
    "fit-raises": _fit("raise RuntimeError('broken')", "RuntimeError: broken"),
    "fit-raises-in-colour": _fit("raise RuntimeError('\\x1b[31mred')", r"RuntimeError: \\x1b\[31mred"),
    "fit-raises-endlessly": _fit("raise RuntimeError('x' * 10**6)", r"^.{0,300}…$"),
    "fit-raises-speechless": Hostile(
        "failed", "def fit(self, healthy, ctx):\n    raise Speechless", "^Speechless$", "fit", SPEECHLESS
    ),
    "fit-exits": _fit("sys.exit(0)", "SystemExit"),
    "fit-interrupts": _fit("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "fit-ends": _fit("os._exit(0)", "ended with exit status 0 and no result"),
    "fit-ends-with-7": _fit("os._exit(7)", "ended with exit status 7 and no result"),
    "fit-kills-itself": _fit("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    "fit-terminates-itself": _fit("os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM"),
    "fit-aborts": _fit("os.abort()", "killed by SIGABRT"),
    "fit-segfaults": _fit("ctypes.string_at(0)", "killed by SIGSEGV"),
    "fit-recursion": _fit("self.fit(healthy, ctx)", "RecursionError"),
    "fit-without-memory": _fit("np.zeros(2**50)", "MemoryError|Unable to allocate"),
    "fit-hangs": _fit("time.sleep(10**6)", "the stage limit", slow=True),
    "fit-ignores-sigterm": _fit(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(10**6)", "the stage limit", slow=True
    ),
    "fit-spins": _fit("exec('while True: pass')", "the stage limit", slow=True),
    "fit-prints": _fit("print('x' * 10**6)", "", "harmless"),
    "fit-prints-bytes": _fit("os.write(1, bytes(range(256)))", "", "harmless"),
    "fit-closes-output": _fit("os.close(1), os.close(2)", "", "harmless"),
    "fit-moves": _fit("os.chdir('/')", "", "harmless"),
    "fit-environment": _fit("os.environ.clear()", "", "harmless"),
    "fit-hides-files": _fit("os.umask(0o077)", "", "harmless"),
    "fit-seeds": _fit("np.random.seed(1)", "", "harmless"),
    "fit-daemon": _fit("threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "", "harmless"),
    "fit-catches-nothing": _fit("np.seterr(all='ignore')", "", "harmless"),
    "save-nothing": Hostile("failed", "def save(self, path):\n    pass", "no checkpoint", "map"),
    "save-raises": Hostile("failed", "def save(self, path):\n    raise OSError('no')", "OSError: no", "fit"),
    "load-raises": Hostile("failed", "def load(self, path):\n    raise OSError('no')", "OSError: no", "map"),
    "provenance-number": Hostile("failed", "def provenance(self):\n    return 3", "returned 3; return a dict", "fit"),
    "provenance-object": Hostile(
        "failed", "def provenance(self):\n    return {'a': 3}", "returned {'a': 3}; return a dict", "fit"
    ),
    "score-raises": _score("raise RuntimeError('broken')", "RuntimeError: broken"),
    "score-exits": _score("sys.exit(0)", "SystemExit"),
    "score-nan": _score("return np.full(case.image.shape, np.nan, np.float32)", "NaN or infinite"),
    "score-infinite": _score("m = np.abs(case.image); m[case.roi] = np.inf; return m", "NaN or infinite"),
    "score-overflows": _score("return np.full(case.image.shape, 1e300)", "NaN or infinite"),
    "score-half": _score("return case.image.astype(np.float16)", "the map is float16"),
    "score-whole": _score("return case.image.astype(np.int32)", "the map is int32"),
    "score-truth": _score("return case.roi", "the map is bool"),
    "score-object": _score("return case.image.astype(object)", "the map is object"),
    "score-complex": _score("return case.image.astype(complex)", "the map is complex128"),
    "score-list": _score("return case.image.tolist()", "the map is a list"),
    "score-none": _score("return None", "the map is a NoneType"),
    "score-flat": _score("return case.image.ravel()", "the map has shape"),
    "score-empty": _score("return np.empty((0, 0, 0), np.float32)", "the map has shape"),
    "score-one-slice": _score("return case.image[:1]", "the map has shape"),
    "score-double": _score("return np.abs(case.image).astype(np.float64)", "", "harmless"),
    "score-big-endian": _score("return np.abs(case.image).astype('>f4')", "", "harmless"),
    "score-fortran": _score("return np.asfortranarray(np.abs(case.image))", "", "harmless"),
    "score-constant": _score("return np.zeros(case.image.shape, np.float32)", "", "harmless"),
    "score-minus-zero": _score("return np.full(case.image.shape, -0.0, np.float32)", "", "harmless"),
    "score-writes-to-the-scan": _score("case.image[...] = 0; return case.image", "", "harmless"),
    "threshold-numpy": Hostile("harmless", "native_threshold = np.float32(5)"),
    "threshold-fraction": Hostile(
        "harmless", "native_threshold = Fraction(5, 2)", top="from fractions import Fraction\n"
    ),
    "threshold-nan": Hostile(
        "failed", "native_threshold = float('nan')", "native_threshold is nan, expected a finite", "map"
    ),
    "threshold-text": Hostile("failed", "native_threshold = '5'", "native_threshold is '5', expected a finite", "map"),
    "threshold-truth": Hostile(
        "failed", "native_threshold = True", "native_threshold is True, expected a finite", "map"
    ),
    "threshold-array": Hostile("failed", "native_threshold = np.ones(2)", "native_threshold is array", "map"),
    "threshold-raises": Hostile(
        "failed", "@property\ndef native_threshold(self):\n    raise OSError('no')", "OSError: no", "map"
    ),
    "postprocess-scores": Hostile(
        "failed", "def postprocess(self, case, scores):\n    return scores", "postprocess returned float32", "map"
    ),
    "postprocess-none": Hostile(
        "failed", "def postprocess(self, case, scores):\n    return None", "postprocess returned NoneType", "map"
    ),
    "postprocess-small": Hostile(
        "failed", "def postprocess(self, case, scores):\n    return scores[:1] > 0", "postprocess returned bool", "map"
    ),
    "postprocess-raises": Hostile(
        "failed", "def postprocess(self, case, scores):\n    raise OSError('no')", "OSError: no", "map"
    ),
}  # fmt: skip

NOBODY = "PermissionError"
"""Why nobody else is killed from behind a wall of Landlock 6 or later."""
ELSEWHERE = "PermissionError|Invalid cross-device"
THIEF = """from uasbench.benchmark.conformance.thieves import ROUTES

def steal(route):
    try:
        found = [stolen for stolen in ROUTES[route]("") if len(stolen) > 200]
    except (OSError, subprocess.SubprocessError):
        return
    if found:
        raise AssertionError(f"{route} led to a label")
"""
THIEVES = ("environment", "descriptors", "frames", "objects", "working folder", "overwritten")
RUN = """def the_run():
    return next(p for p in Path(sys._getframe(1).f_locals["path"]).parents if (p / "fits").is_dir())
"""


def _save(code: str, says: str = "", outcome: Outcome = "harmless", stage: Literal["fit", "map"] = "fit") -> Hostile:
    """Act where the method gets the path of its checkpoint, which lies in the run folder."""
    body = f"def save(self, path):\n    super().save(path)\n    {code}"
    return Hostile(outcome, body, says, stage, RUN)


def _harmless(code: str) -> Hostile:
    return _fit(code, "", "harmless")


def _thief(route: str) -> Hostile:
    return Hostile("harmless", f"def score(self, case):\n    steal({route!r})\n    {NUMBERS}", stage="map", top=THIEF)


OUTSIDE = {
    **{f"steals-by-{route.replace(' ', '-')}": _thief(route) for route in THIEVES},
    "kills-its-supervisor": _fit("os.kill(os.getppid(), signal.SIGKILL)", NOBODY),
    "kills-the-zygote": _fit("os.kill(parent_of(os.getppid()), signal.SIGKILL)", NOBODY),
    "kills-the-command": _fit("os.kill(parent_of(parent_of(os.getppid())), signal.SIGKILL)", NOBODY),
    "stops-itself": _fit("os.kill(os.getpid(), signal.SIGSTOP)", "the stage limit", slow=True),
    "leaves-a-thread": _harmless("threading.Thread(target=time.sleep, args=(10**6,)).start()"),
    "leaves-a-child": _harmless("subprocess.Popen(['sleep', '1000000'])"),
    "leaves-a-session": _harmless("subprocess.Popen(['sleep', '1000000'], start_new_session=True)"),
    "leaves-a-fork": _harmless("os.fork() or time.sleep(10**6)"),
    "leaves-a-daemon": _harmless(
        "if os.fork() == 0:\n        os.setsid()\n        os.fork() or time.sleep(10**6)\n        os._exit(0)"
    ),
    "leaves-a-child-that-ignores-sigterm": _harmless(
        "subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 1000000'])"
    ),
    "prints-100-mb": _harmless("for _ in range(100):\n        print('x' * 10**6)"),
    "reports-nonsense": _harmless("os.write(3, b'nonsense\\n[1]\\n{\"error\": 7}\\n' * 1000)"),
    "reports-binary": _fit("os.write(3, bytes(range(256)) * 1000)", "exit status 0 and no result"),
    "reports-a-false-done": _fit("os.write(3, b'{\"error\": null}\\n'); os._exit(0)", "ended without fit.json"),
    "reports-a-false-error": _harmless("os.write(3, b'{\"error\": \"no\"}\\n')"),
    "reports-a-false-map": _score("os.write(3, b'{\"error\": null}\\n'); os._exit(0)", "ended without map.json"),
    "reports-odd-progress": _harmless(
        "os.write(3, b'{\"progress\": [-5, 0]}\\n{\"progress\": [9, \"x\"]}\\n')"
    ),
    "closes-its-reports": _fit("os.close(3)", "exit status 1 and no result"),
    "closes-everything": _fit("os.closerange(0, 1000)", "Bad file descriptor|exit status 1 and no result"),
    "leaves-a-link": _save("path.with_name('link').symlink_to('/etc/passwd')", "left link, which is no file", "failed"),
    "leaves-a-pipe": _save("os.mkfifo(path.with_name('pipe'))", "left pipe, which is no file", "failed"),
    "saves-a-link": Hostile(
        "failed", "def save(self, path):\n    path.symlink_to('/etc/passwd')", "last.pt|no checkpoint", "fit"
    ),
    "leaves-another-file": _save("path.with_name('more.bin').write_bytes(b'x' * 10**6)"),
    "saves-a-pickle-that-acts": Hostile(
        "failed", "def save(self, path):\n    path.write_bytes(pickle.dumps(Acts()))",
        "weights_only|Unsupported|cannot be read|damaged|Weights only", "map",
        "class Acts:\n    def __reduce__(self):\n        return os._exit, (99,)\n",
    ),
    "deletes-the-run": _save("run = the_run(); [shutil.rmtree(run / part, True) for part in ('maps', 'records')]"),
    "lists-other-fits": _save("os.listdir(the_run() / 'fits')", NOBODY, "failed"),
    "writes-into-the-run": _save("(the_run() / 'run.json').write_text('{}')", NOBODY, "failed"),
    "reads-the-run": _save("(the_run() / 'run.json').read_text()", NOBODY, "failed"),
    "links-to-the-run": _save("os.link(the_run() / 'run.json', path.with_name('a'))", ELSEWHERE, "failed"),
    "moves-the-run": _save("(the_run() / 'run.json').rename(path.with_name('moved'))", ELSEWHERE, "failed"),
    "writes-to-the-scan-it-was-given": _score(
        "for a in (case.image, case.roi):\n        a.flags.writeable = True\n        a[...] = 1\n    return case.image",
        "", "harmless",
    ),
    "fills-its-temporary-folder": _harmless("Path(tempfile.mkdtemp(), 'x').write_bytes(b'x' * (5 * 10**7))"),
    "forbids-its-temporary-folder": _harmless("os.mkdir('x'); Path('x/y').touch(); os.chmod('x', 0)"),
    "limits-its-files": _fit("limit('NOFILE', 4)", "Too many open files"),
    "limits-the-size-of-files": _fit("limit('FSIZE', 0)", "File too large|cannot be written|SIGXFSZ"),
    "limits-its-memory": _score("limit('AS', 2**20); return np.ones((2000, 2000, 20))", "MemoryError|Unable to alloc"),
    "limits-its-time": _fit("limit('CPU', 1); exec('while True: pass')", "killed by SIG(KILL|XCPU)"),
    "changes-numpy": _harmless("np.abs = np.asarray = None"),
    "changes-the-engine": _harmless("import uasbench.benchmark.stages.fit as fit; fit.check_whole = None"),
    "changes-the-default-type": _harmless("import torch; torch.set_default_dtype(torch.float64)"),
    "changes-the-path": _fit("sys.path[:] = []", "ModuleNotFoundError"),
    "traces": _harmless("sys.settrace(lambda *_: None); sys.setrecursionlimit(10**6)"),
    "leaves-at-exit": _harmless("import atexit; atexit.register(os._exit, 5)"),
    "replaces-its-program": _fit("os.execv('/bin/true', ['true'])", "exit status 0 and no result"),
    "score-longdouble": _score("return np.abs(case.image).astype(np.longdouble)", "", "harmless"),
    "score-strided": _score("return np.repeat(np.abs(case.image), 2, axis=2)[:, :, ::2]", "", "harmless"),
    "score-masked": _score("return np.ma.masked_less(case.image, 0)", "masked array"),
    "card-of-many-signs": Hostile("harmless", card="notes='<script>&{{7*7}}[red]$x$ **a** \\\\input{x}'"),
}  # fmt: skip

PLANNED = VIEWS | ANSWERS
HOSTILE = PLANNED | IMPORTS | STAGES | OUTSIDE

MODULE = """import ctypes, os, pickle, resource, shutil, signal, subprocess, sys, tempfile, threading, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from uasbench import Config, Method, MethodCard, View, VolumeView

def parent_of(pid):
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])

def limit(what, number):
    resource.setrlimit(getattr(resource, "RLIMIT_" + what), (number, number))

{top}

class Plugin(Method):
    card = MethodCard(name={name!r}, title="A hostile plug-in", deterministic=True{card})

    def fit(self, healthy, ctx):
        pass

    def score(self, case):
        {numbers}

    def score_view(self, array, roi, spacing):
        return array.astype(np.float32)

{body}
"""


def module(name: str) -> str:
    """Return the name of a plug-in's module."""
    return f"hostile_{name.replace('-', '_')}"


def files(names: Iterable[str]) -> dict[str, str]:
    """Return the modules of plug-ins, by file name."""
    return {f"{module(name)}.py": _source(name, HOSTILE[name]) for name in names}


def points(names: Collection[str]) -> dict[str, str]:
    """Return the entry points of plug-ins: name to class."""
    return {name: f"{module(name)}:Plugin" for name in names}


def _source(name: str, hostile: Hostile) -> str:
    body = "\n".join(f"    {line}" for line in hostile.body.splitlines())
    card = f", {hostile.card}" if hostile.card else ""
    return MODULE.format(top=hostile.top, name=name, card=card, numbers=NUMBERS, body=body)
