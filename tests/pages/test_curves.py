"""Curves of a run over its epochs."""

import pytest

from parcnet_train.pages.curves import curves, last_steps, positions

ROWS = ("epoch,step,val/top1\n", "0,0,\n", "0,9,0.5\n", "1,14,\n", "1,19,0.75\n")


def test_steps_become_epochs(tmp_path):
    file = tmp_path / "version_0" / "metrics.csv"
    file.parent.mkdir()
    file.write_text("".join(ROWS))
    ends = last_steps(tmp_path)
    assert ends == {0: 9, 1: 19}
    assert positions([0, 4, 9, 14, 19], ends) == pytest.approx([0.1, 0.5, 1, 1.5, 2])


def test_ema_and_trained_weights_share_a_figure():
    points = ([1.0, 2.0], [0.5, 0.75])
    series = {"val/top1": points, "val/raw/top1": points, "val/loss": points}
    loss, metric = curves(series, "val/top1")
    assert (loss.name, metric.name) == ("curve_loss", "curve_metric")
    labels = [text.get_text() for text in metric.content.axes[0].get_legend().texts]
    assert labels == ["EMA weights", "trained weights"]
    assert "EMA weights from 0.5 to 0.75" in metric.alt


def test_one_point_is_no_curve():
    assert list(curves({"val/top1": ([1.0], [0.5])}, "val/top1")) == []


def test_a_run_without_logs_has_no_curves():
    assert list(curves({}, "val/top1")) == []
