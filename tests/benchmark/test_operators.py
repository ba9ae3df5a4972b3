"""The table of operators of a method's updates."""

from uasbench.benchmark import operators


def test_a_table_names_the_operators_of_some_updates(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operators, "WARM", 1)
    monkeypatch.setattr(operators, "UPDATES", 2)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    operators.main(["ae", "--profile", "smoke", "--device", "cpu"])
    said = capsys.readouterr().out
    assert said.startswith("2 updates of ae")
    assert "aten::convolution_backward" in said


def test_a_training_that_is_too_short_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(operators, "WARM", 10_000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    operators.main(["ae", "--profile", "smoke", "--device", "cpu"])
    assert "are needed" in capsys.readouterr().out
