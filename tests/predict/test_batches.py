import json

import pytest

from predicting import best, predict, write_mixed


def test_prediction_does_not_depend_on_the_rest_of_the_batch(trained, tmp_path):
    folder = write_mixed(tmp_path / "photos")
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), folder, tmp_path / "all", "predict.batch_size=8")
    assert caught.value.code == 1
    rows = json.loads((tmp_path / "all" / "predictions.json").read_text())
    for name in ("x.jpg", "truncated.jpg", *(f"good{number:02d}.png" for number in (1, 3, 5))):
        (folder / name).unlink()
    _, fewer = predict(best(trained[0]), folder, tmp_path / "fewer", "predict.batch_size=8")
    by_file = {row["file"]: row for row in rows}
    assert len(fewer) == 20
    for row in fewer:
        expected = by_file[row["file"]]["predictions"]
        assert row["predictions"] == [
            {**each, "probability": pytest.approx(each["probability"], abs=1e-6)}
            for each in expected
        ]
