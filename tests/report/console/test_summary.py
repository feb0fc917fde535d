from parcnet_train.report.console.summary import print_summary

RESULTS = {
    "backbone": "parcnet_s",
    "data": "coco",
    "parameters": 5_197_282,
    "val/map": 0.288,
    "val/ap/person": 0.41,
    "val/ap/[x]": float("nan"),
    "val/skipped": 0,
    "checkpoint_epoch": 3,
    "seconds": 12.3,
    "run_dir": "runs/x",
    "checkpoint": "runs/x/checkpoints/best.ckpt",
}


def test_class_metrics_have_their_own_table(capsys):
    print_summary(RESULTS)
    classes, _, run = capsys.readouterr().out.partition("parcnet_s on coco")
    assert [line.split("│")[1:3] for line in classes.splitlines() if line.endswith("│")] == [
        [" person ", " 0.4100 "],
        [" [x]    ", " nan    "],
    ]
    assert "5,197,282 parameters" in run
    assert "0.2880" in run
    assert "skipped" not in run
    assert "person" not in run
    assert "evaluated on" not in run


def test_only_a_training_has_epochs(capsys):
    print_summary(RESULTS)
    text = capsys.readouterr().out
    assert "epoch of the checkpoint │ 3" in text
    assert "epochs" not in text
    print_summary({**RESULTS, "epochs": 5})
    text = capsys.readouterr().out
    assert "epochs " in text
    assert "best epoch" in text
    assert "of the checkpoint" not in text


def test_summary_says_that_the_test_set_was_evaluated(capsys):
    print_summary({**RESULTS, "split": "test"})
    assert "evaluated on" in capsys.readouterr().out


def test_summary_says_what_was_evaluated_if_not_all_classes(capsys):
    print_summary({**RESULTS, "images": 7500, "evaluated_classes": 200})
    assert "7,500 images of 200 classes" in capsys.readouterr().out
