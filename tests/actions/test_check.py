import shlex

import pytest

from running import TINY


def test_check_trains_nothing(call_here, tmp_path, capsys):
    call_here("action=check", "backbone=mobilevit_s")
    assert "no faults: task=classification backbone=mobilevit_s" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_check_checks_every_job_of_a_sweep(flags, call_here, image_folder, capsys):
    ours = (*TINY, "data=imagefolder", "action=check", f"data.root={image_folder},/data/absent")
    with pytest.raises(SystemExit) as caught:
        call_here(*flags, *ours, "seed=0,-1")
    assert caught.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    (absent,) = [line for line in errors if "/data/absent" in line and "several values" not in line]
    assert "data.root=/data/absent seed=0" in absent  # the first job with this fault
    assert "1 more" in absent
    (seed,) = [line for line in errors if line.startswith("error: seed=-1")]
    assert f"data.root={image_folder} seed=-1" in seed
    as_text = shlex.quote(f'data.root="{image_folder},/data/absent"')
    assert any(as_text in line for line in errors) == (flags == [])
    call_here(*flags, *ours[:-1], f"data.root={image_folder}", "seed=0,1")
    printed = capsys.readouterr().out
    assert "no faults" in printed
    assert "2 of 2 configurations" in printed


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize("examination", ["check.data=headers", "check.predictions=RUN"])
def test_check_of_a_sweep_refuses_what_writes_a_report(flags, examination, call_here, capsys):
    with pytest.raises(SystemExit) as caught:
        call_here(*flags, *TINY, "action=check", examination, "seed=0,1")
    assert caught.value.code == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if examination in each]
    assert line.startswith(f"error: {examination}: a check of several configurations does not")


def test_check_checks_the_jobs_of_a_sweep_config(call_here, tmp_path, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {recipe.epochs: '1,0'}}}\n"
    )
    with pytest.raises(SystemExit):
        call_here("-m", f"--config-dir={tmp_path}", "sweep=mine", "action=check", *TINY)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: recipe.epochs=0")
    assert line.endswith("(in recipe.epochs=0)")


def test_schemas_are_written_while_they_lack_a_key_of_conf(call_here, tmp_path, capsys):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("defaults: [imagenet_300e]\nbrand_new: 1\n")
    folder = f"--config-dir={tmp_path}"
    with pytest.raises(SystemExit):
        call_here(folder, "recipe=mine", "action=check")
    assert "recipe.brand_new" in capsys.readouterr().err
    call_here(folder, "recipe=mine", "action=schema", "hydra.run.dir=new")
    assert (tmp_path / "new" / "schema" / "recipe.json").is_file()
