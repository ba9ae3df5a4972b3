"""Messages from elsewhere: one short line that changes no terminal; code from elsewhere ends nothing but itself."""

import signal

import pytest
from uasbench.common.errors import brief, printable, shortened, summary
from uasbench.common.foreign import EndedItselfError, contained


class Speechless(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é × — 肝\n\tnext", "plain é × — 肝\n\tnext"),
        ("\x1b[31mred\x07\r", r"\x1b[31mred\x07\r"),
        ("\x9b31m\x00", r"\x9b31m\x00"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_spelled_out(text, shown):
    assert printable(text) == shown


def test_an_error_is_one_short_line_whatever_it_says():
    assert summary(ValueError("first\x1b\nsecond")) == r"ValueError: first\x1b"
    assert summary(ValueError()) == brief(ValueError()) == "ValueError"
    assert summary(Speechless()) == brief(Speechless()) == "Speechless"
    assert len(summary(ValueError("x" * 10**6))) == len(brief(ValueError("x" * 10**6))) == 300
    assert shortened(" a\n b ") == "a b"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
def test_what_would_end_the_program_becomes_an_error(error):
    with pytest.raises(EndedItselfError, match=type(error).__name__), contained():
        raise error


def test_an_exception_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), contained():
        raise ZeroDivisionError
    with pytest.raises(StopIteration), contained():
        raise StopIteration


def test_ctrl_c_stays_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), contained():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
