"""The table of an exported file's operators."""

from parcnet_train.report.console.operators import print_operators


def test_every_operator_has_a_row(capsys):
    print_operators("a.onnx", {"Conv": 30, "Add[x]": 2})
    title, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in lines if line[:1] == "│"]
    assert title == "a.onnx"
    assert rows == [["Conv", "30"], ["Add[x]", "2"]]
