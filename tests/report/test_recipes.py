import copy

import pytest

from parcnet_train.report.collected import Run
from parcnet_train.report.recipes import in_words, mixed_recipes, other_surroundings
from parcnet_train.runs.actions import SECTIONS
from parcnet_train.runs.directories import NO_PART_OF_A_RESULT, WITHOUT_RESULT
from run_folders import provenance_of, results_of


def run(tmp_path, number, seed, provenance=None, **changes):
    return number, Run("x", tmp_path, results_of(number, seed, 0.5, **changes), provenance, 0.0)


def changed(seed, key, value):
    """Return a provenance with one changed value of its configuration."""
    told = copy.deepcopy(provenance_of(seed))
    *parts, name = key.split(".")
    node = told["config"]
    for part in parts:
        node = node[part]
    node[name] = value
    return told


def test_different_rows_and_seeds_are_not_mixed(tmp_path):
    runs = [run(tmp_path, n, seed, provenance_of(seed)) for n in (1, 7) for seed in (0, 1)]
    assert mixed_recipes(runs) == other_surroundings(runs) == []


def test_backbone_and_data_folder_are_not_mixed(tmp_path):
    told = changed(0, "backbone.depths", [1, 1, 1])
    moved = changed(0, "data.root", "/elsewhere")
    runs = [run(tmp_path, 1, 0, provenance_of(0)), run(tmp_path, 4, 0, told)]
    assert mixed_recipes(runs) == []
    runs = [run(tmp_path, 1, 0, provenance_of(0)), run(tmp_path, 4, 0, moved)]
    assert mixed_recipes(runs) == []
    assert other_surroundings(runs) == ["data.root: /data (row 1), /elsewhere (row 4)"]


@pytest.mark.parametrize(
    "key",
    [
        "predict.top",
        "export.format",
        "input",
        "ckpt",
        "action",
        *(f"{section}.anything" for section in (*NO_PART_OF_A_RESULT, *SECTIONS)),
        *(f"{part}.{key}" for part, keys in WITHOUT_RESULT.items() for key in keys),
    ],
)
def test_values_without_effect_on_training_are_not_mixed(key, tmp_path):
    told = provenance_of(0)
    *parts, name = key.split(".")
    node = told["config"] = copy.deepcopy(told["config"])
    for part in parts:
        node = node.setdefault(part, {})
    node[name] = "something else"
    runs = [run(tmp_path, 1, 0, provenance_of(0)), run(tmp_path, 4, 0, told)]
    assert mixed_recipes(runs) == []


def test_recipe_values_are_listed_by_row(tmp_path):
    runs = [
        run(tmp_path, 1, 0, provenance_of(0, lr=0.004)),
        run(tmp_path, 2, 0, provenance_of(0)),
        run(tmp_path, 3, 0, provenance_of(0)),
        run(tmp_path, 4, 0, provenance_of(0)),
        run(tmp_path, 4, 1, provenance_of(1, lr=0.004)),
    ]
    assert mixed_recipes(runs) == [
        "recipe.optimizer.lr: 0.004 (row 1; 1 of 2 runs of row 4), "
        "0.002 (rows 2, 3; 1 of 2 runs of row 4)"
    ]


def test_keys_with_the_same_values_share_a_line(tmp_path):
    told = provenance_of(0)
    told["config"]["recipe"]["epochs"] = told["config"]["trainer"]["max_epochs"] = 3
    runs = [run(tmp_path, 1, 0, provenance_of(0)), run(tmp_path, 2, 0, told)]
    assert mixed_recipes(runs) == ["recipe.epochs, trainer.max_epochs: 2 (row 1), 3 (row 2)"]


def test_backbone_overrides_and_pretrained_weights_are_mixed(tmp_path):
    other = provenance_of(0, overrides=["ablation=table2_row2", "+backbone.dropout=0.3"])
    other["config"]["backbone"]["pretrained"] = "a.ckpt"
    third = provenance_of(0)
    third["config"]["backbone"]["pretrained"] = "b.ckpt"
    runs = [
        run(tmp_path, n, 0, told) for n, told in ((1, provenance_of(0)), (2, other), (3, third))
    ]
    assert mixed_recipes(runs) == [
        "backbone.pretrained: null (row 1), a checkpoint (rows 2, 3)",
        "backbone.dropout: absent (rows 1, 3), 0.3 (row 2)",
    ]


def test_data_files_and_process_counts_are_mixed(tmp_path):
    data = {"train_images": 10, "val_images": 5, "files_sha256": "1" * 64}
    other = provenance_of(0, data=data, sessions=[{"world_size": 2}])
    runs = [run(tmp_path, 1, 0, provenance_of(0)), run(tmp_path, 7, 0, other)]
    assert mixed_recipes(runs) == [
        f"data files.files_sha256: {'0' * 57}... (row 1), {'1' * 57}... (row 7)",
        "processes: 1 (row 1), 2 (row 7)",
    ]


def test_versions_machines_and_revisions_are_environment(tmp_path):
    (tmp_path / "git.diff").write_text("-a\n+b\n")
    git = {"revision": "abc", "dirty": True, "diff": "git.diff"}
    hardware = {"host": "b", "gpus": ["H200"]}
    other = provenance_of(0, git=git, hardware=hardware, packages={"torch": "2.11.0"})
    runs = [run(tmp_path, 1, 0, provenance_of(0))]
    runs += [run(tmp_path, 7, 0, other, torch_version="2.11.0")]
    assert mixed_recipes(runs) == []
    assert other_surroundings(runs) == [
        "torch_version, packages.torch: 2.13.0 (row 1), 2.11.0 (row 7)",
        "hardware.host: a (row 1), b (row 7)",
        'hardware.gpus: [] (row 1), ["H200"] (row 7)',
        "git.revision: null (row 1), abc (row 7)",
        "git.diff: null (row 1), be5a392951db (row 7)",
    ]


def test_without_provenance_results_json_is_compared(tmp_path):
    runs = [
        run(tmp_path, 1, 0),
        run(tmp_path, 7, 0, provenance_of(0, lr=1), epochs=3, torch_version="2.11.0"),
        run(tmp_path, 7, 1, parameters=9),
    ]
    assert mixed_recipes(runs) == [
        "epochs: 2 (row 1; 1 of 2 runs of row 7), 3 (1 of 2 runs of row 7)",
        "parameters: 5000003 (1 of 2 runs of row 7), 9 (1 of 2 runs of row 7)",
    ]
    assert other_surroundings(runs) == [
        "torch_version: 2.13.0 (row 1; 1 of 2 runs of row 7), 2.11.0 (1 of 2 runs of row 7)"
    ]


def test_rows_are_described_in_words():
    everything = [1, 2, 3, 4, 6, 7, 9, 9]
    assert in_words([1, 2, 3, 6, 7], everything) == "rows 1 to 3, 6, 7"
    assert in_words([9], everything) == "1 of 2 runs of row 9"
