from parcnet_train.report.console.sensitivities import SHOWN, print_sensitivities


def test_layer_names_are_not_cut(capsys):
    names = [f"/network/{'backbone/stages.[4]' * 6}/{number}/Conv" for number in range(SHOWN + 2)]
    print_sensitivities({name: 100.0 - number for number, name in enumerate(names)})
    _, *lines = capsys.readouterr().out.splitlines()
    found = [line.split("│")[1:3] for line in lines if line.endswith("│")]
    assert [[each.strip() for each in row] for row in found] == [
        [name, f"{100 - number:.1f} dB"] for number, name in [*enumerate(names)][:1:-1]
    ]
