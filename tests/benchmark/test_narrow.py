"""Lists on terminals of any width."""

import pytest
from rich.console import Console
from rich.table import Table
from uasbench.benchmark.catalogue.showing import table_of
from uasbench.benchmark.commands import listing, narrow


def printed(table: Table, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(narrow.fitted(table, console))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("what", ["methods", "datasets", "experiments"])
def test_no_line_overflows_and_no_word_is_broken(what, width):
    table = getattr(listing, what)()
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    shown = {word.strip(";,") for line in lines for word in line.split()}
    words = {word.strip(";,") for row in narrow.rows(table) for text in row.values() for word in text.split()}
    assert not {word for word in words - shown if len(word) < width - 2}


def test_a_table_stays_one_where_it_fits():
    table = table_of(("name", "what"), [("a", "one two"), ("b", "")])
    assert narrow.fitted(table, Console(width=80)) is table
    assert [line.strip() for line in printed(table, 9)][:3] == ["a", "what:", "one two"]


def test_rows_are_plain_values_and_what_is_broken_says_why():
    table = table_of(("name", "what", "more"), [("a", "x", "y")], broken={"b": "no such module"})
    assert narrow.rows(table) == [{"name": "a", "what": "x", "more": "y"}, {"name": "b", "broken": "no such module"}]
