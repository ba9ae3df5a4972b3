"""One message, two readers: who typed a command is told its options, who called a function its arguments."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .errors import UasbenchError

P = ParamSpec("P")
T = TypeVar("T")

_ARGUMENTS = {"variant": "variants", "stage-limit": "stage_limit_s"}
"""Options whose argument has another name."""
_LISTS = frozenset({"only", "exclude", "keep", "variant", "set"})
_SWITCHES = frozenset({"phantom", "dicom-seg", "tables-only"})
_CALLS = {"run": "run", "report": "report", "rescore": "rescore", "import": "import_maps", "export": "export"}
_OPTION = re.compile(r"--([a-z][a-z-]*)(?: ('[^']*'|\"[^\"]*\"|\[[^]]*\]|(?:[^\s,;:()'\"\[]|:(?=\S))+))?")
_VALUE = re.compile(r"[^a-z].*|.*[:/.@=*…\d].*")
"""What after an option is a value for certain; any other word is one where a comma, a colon or nothing follows it."""
_TWICE = re.compile(r"(\w+)=\[([^]]*)\] \1=\[")


def in_python(text: str) -> str:
    """Return a message with the arguments of Python in place of the options of the command.

    >>> in_python("--seeds 'x': give a number of seeds"), in_python("give --data-root DIR, or try --phantom")
    ("seeds='x': give a number of seeds", 'give data_root=DIR, or try phantom=True')
    >>> in_python("leave it out with --exclude lits:volume-3; run the same 'bench run' again")
    "leave it out with exclude=['lits:volume-3']; call uasbench.run() again"
    """
    for command, call in _CALLS.items():
        text = text.replace(f"run the same 'bench {command}' again", f"call uasbench.{call}() again")
        text = text.replace(f"'bench {command}'", f"uasbench.{call}()")
    text = _OPTION.sub(_argument, text)
    while (joined := _TWICE.sub(r"\1=[\2, ", text)) != text:
        text = joined
    return text


def _argument(found: re.Match[str]) -> str:
    option, value = found[1], found[2]
    name = _ARGUMENTS.get(option, option.replace("-", "_"))
    follows = found.string[found.end() :][:1]
    if option.startswith("no-"):
        name, said = name.removeprefix("no_"), "False"
    elif option in _SWITCHES:
        said = "True"
    elif value is not None and (_VALUE.fullmatch(value) or follows in ":,"):
        said = value if re.fullmatch(r"-?\d[\d.]*|[A-Z]+|['\"\[].*", value) else repr(value)
        said = f"[{said}]" if option in _LISTS and not said.startswith("[") else said
        value = None
    else:
        said = ""
    return f"{name}={said}" + ("" if value is None else f" {value}")


def spoken(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function that users call speak of its arguments in its errors."""

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except UasbenchError as error:
            if len(error.args) == 1:
                error.args = (in_python(str(error.args[0])),)
            raise

    return call
