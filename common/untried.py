"""Code for GPUs that has not run on one yet is used where ``UASBENCH_UNTRIED=1`` asks for it.

It changes no bit of a training; maps are scored in larger batches, and have an address of their own. A stage does what
its task was planned with (:func:`ask`), whatever the environment of its machine says.
"""

import os

ASKED = "UASBENCH_UNTRIED"


def untried(device: str) -> bool:
    """Tell whether such code may run on a device: never on the CPU.

    >>> untried("cpu")
    False
    """
    return device.startswith("cuda") and os.environ.get(ASKED) == "1"


def ask(wanted: bool) -> None:
    """Ask for such code, or for none of it, in this process and in those that it starts."""
    os.environ[ASKED] = str(int(wanted))
