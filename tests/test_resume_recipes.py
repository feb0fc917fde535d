"""A run with any part of a recipe, killed within an epoch and resumed, equals one never stopped."""

import pytest

from killing import assert_same_end, run_killed_and_resumed
from running import TINY, run

# Two epochs of five batches, each with a checkpoint; the kill comes within the second epoch.
OVERRIDES = [
    *TINY,
    "recipe.batch_size=6",
    "recipe.reference_batch=6",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=5",
    "checkpoint.every_n_steps=1",
    "recipe.schedule.warmup_steps=2",
    "recipe.ema.decay=0.5",
]
KILLED_BEHIND = 7

OPTIMIZER = "recipe.optimizer._target_="
STABLE = "recipe.schedule._target_=parcnet_train.optim.schedule.warmup_stable_decay"
PROGRESSIVE = [
    "recipe.multi_scale._target_=parcnet_train.data.samplers.Progressive",
    "recipe.multi_scale.rule=balanced",
    "recipe.multi_scale.smallest=0.5",
    "recipe.multi_scale.largest=1.0",
    "+recipe.multi_scale.epochs=2",
    "recipe.image_size=64",
]
RECIPES = {
    "lion": [f"{OPTIMIZER}timm.optim.Lion"],
    "counting optimizer": [f"{OPTIMIZER}own_optimizers.lookahead"],
    "constant": [STABLE, "+recipe.schedule.decay_share=0"],
    "warmup_stable_decay": [STABLE, "+recipe.schedule.decay_share=0.4"],
    "progressive": PROGRESSIVE,
    "final_decay": ["recipe.ema.final_decay=1.0"],
    "no_weight_decay": ["recipe.no_weight_decay=[norms,biases,embeddings]"],
    "lamb": [f"{OPTIMIZER}timm.optim.Lamb"],
    "nadamw": [f"{OPTIMIZER}timm.optim.NAdamW"],
    "adopt": [f"{OPTIMIZER}timm.optim.Adopt"],
}
# Everything at once is quick; each alone says which part is at fault.
TOGETHER = [
    *RECIPES["lion"],
    *RECIPES["warmup_stable_decay"],
    *RECIPES["progressive"],
    *RECIPES["final_decay"],
    *RECIPES["no_weight_decay"],
]


def assert_resumes_exactly(overrides, tmp_path):
    results = run([*OVERRIDES, *overrides], tmp_path / "straight")
    resumed = run_killed_and_resumed([*OVERRIDES, *overrides], tmp_path / "killed", KILLED_BEHIND)
    assert_same_end(tmp_path / "straight", results, tmp_path / "killed", resumed)


@pytest.mark.slow
def test_killed_run_with_parts_of_several_recipes_resumes_exactly(tmp_path):
    assert_resumes_exactly(TOGETHER, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_killed_run_of_a_recipe_resumes_exactly(name, tmp_path):
    assert_resumes_exactly(RECIPES[name], tmp_path)
