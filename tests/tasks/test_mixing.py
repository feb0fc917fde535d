import numpy as np
import pytest
import torch
from scipy.stats import kstest

from parcnet_train.build import build_task
from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.tasks.mixing import Mixing
from running import TINY, configure, run


def flat_images(*values, size=(8, 8)):
    """Make images with one value each."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, *size)


def mixed(mixup, cutmix, seed, size=(8, 8)):
    """Mix a black image of class 0 and a white image of class 2; return images and labels."""
    torch.manual_seed(seed)
    return Mixing(3, mixup, cutmix)(flat_images(0, 255, size=size), torch.tensor([0, 2]))


def test_mixup_weights_images_and_labels_equally():
    for seed in range(20):
        images, labels = mixed(0.2, 0.0, seed)
        assert (images.dtype, labels.shape) == (torch.float32, (2, 3))
        for image, label in zip(images, labels, strict=True):
            assert torch.allclose(image, label[2].expand(3, 8, 8))
        assert torch.allclose(labels.sum(dim=1), torch.ones(2))


def test_cutmix_weights_labels_by_the_pasted_area():
    for seed in range(20):
        images, labels = mixed(0.0, 1.0, seed, size=(64, 48))
        assert set(images.unique().tolist()) <= {0.0, 1.0}
        assert torch.allclose(images.mean(dim=(1, 2, 3)), labels[:, 2], atol=1e-6)
        assert torch.allclose(labels.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_weights_are_beta_distributed(alpha):
    weights = [mixed(alpha, 0.0, seed)[1][0, 0].item() for seed in range(400)]
    # The order of the two images is drawn too; the distribution is symmetric.
    assert kstest(weights, "beta", args=(alpha, alpha)).pvalue > 1e-3


def test_each_step_draws_mixup_or_cutmix():
    cut = 0
    for seed in range(400):
        images, _ = mixed(1.0, 1.0, seed)
        cut += set(images.unique().tolist()) <= {0.0, 1.0}
    assert abs(cut - 200) < 5 * np.sqrt(400 * 0.25)


def test_mixing_is_reproducible_with_a_seed():
    for first, second in zip(mixed(0.2, 1.0, 5), mixed(0.2, 1.0, 5), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(mixed(0.2, 0.0, 5)[0], mixed(0.2, 0.0, 6)[0])


def test_images_are_not_always_mixed_with_their_neighbors():
    images, labels = flat_images(*range(0, 240, 10)), torch.arange(24)
    partners = set()
    for seed in range(20):
        torch.manual_seed(seed)
        _, shares = Mixing(24, 1.0, 0.0)(images, labels)
        pairs = [tuple(sorted(row.nonzero().flatten().tolist())) for row in shares]
        assert len(pairs) == 24
        partners |= set(pairs)
    assert len(partners) > 100


class Recorder(torch.nn.Module):
    """A model that stores its images and returns given logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        self.images = images
        return self.logits


def make_task(mixing, logits=None):
    values, faults = configure([*TINY, f"recipe.mixing={mixing}"])
    assert faults == []
    task = build_task(values, 3)
    task.model = Recorder(logits)
    task.log = lambda *arguments, **options: None
    return task


def test_label_smoothing_applies_to_mixed_labels():
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    task = make_task("{mixup: 0.2, cutmix: 0}", logits)
    labels = torch.tensor([0, 2])
    batch = ClassificationBatch(flat_images(0, 255), labels, torch.arange(2), torch.tensor(0))
    torch.manual_seed(3)
    loss = task.training_step(batch, 0)
    images, labels = mixed(0.2, 0.0, 3)
    assert torch.equal(task.model.images, images)
    targets = 0.9 * labels.double() + 0.1 / 3
    expected = -(targets * logits.double().log_softmax(dim=1)).sum(dim=1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("mixing", ["null", "{mixup: 0.0, cutmix: 0}"])
def test_mixing_can_be_turned_off(mixing):
    assert make_task(mixing).mixing is None


@pytest.mark.slow
def test_a_run_with_every_option_is_reproducible(image_folder, tmp_path):
    options = [
        *TINY,
        "recipe.batch_size=2",
        "data=imagefolder",
        f"data.root={image_folder}",
        "recipe.mixing={mixup: 0.2, cutmix: 1}",
        "recipe.augmentation.randaugment={operations: 2, magnitude: 9}",
        "recipe.augmentation.color_jitter={brightness: 1, contrast: 0, saturation: 0, hue: 0}",
        "recipe.augmentation.random_erasing=0.5",
        "recipe.augmentation.repeats=2",
        "trainer.accelerator=cpu",
    ]
    losses = [
        run([*options, *more], tmp_path / str(number))["train/loss"]
        for number, more in enumerate((["data.num_workers=0"], ["data.num_workers=1"], ["seed=1"]))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
