import pytest
import torch
from torch import nn

from parcnet_train.models.base import Level
from parcnet_train.models.heads.classifier import Classifier

LEVELS = (Level(16, 5), Level(32, 6))
EXPANDED = (Level(16, 5), Level(32, 6, expansion=24))


def maps(size=(3, 5)):
    return [torch.randn(2, 5, 7, 7).double(), torch.randn(2, 6, *size).double()]


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1)])
def test_logits_are_linear_in_the_mean_of_the_last_map(size):
    head = Classifier(LEVELS, 10).double().eval()
    nn.init.normal_(head.linear.bias)
    first, last = maps(size)
    expected = torch.zeros(2, 10, dtype=torch.float64)
    for b, k in torch.cartesian_prod(torch.arange(2), torch.arange(10)):
        expected[b, k] = head.linear.bias[k]
        for c in range(6):
            expected[b, k] += head.linear.weight[k, c] * last[b, c].sum() / last[b, c].numel()
    torch.testing.assert_close(head([first, last]), expected, atol=1e-12, rtol=0)
    assert torch.equal(head([first + 1, last]), head([first, last]))


def test_expansion_comes_before_pooling():
    head = Classifier(EXPANDED, 10).double().eval()
    _, last = maps()
    weight = head.expand.conv.weight[:, :, 0, 0]
    expanded = torch.einsum("oc,bchw->bohw", weight, last) / (1 + head.expand.norm.eps) ** 0.5
    pooled = (expanded * torch.sigmoid(expanded)).mean(dim=(2, 3))
    expected = pooled @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head([None, last]), expected, atol=1e-12, rtol=0)


def test_only_families_with_an_expansion_have_one():
    assert isinstance(Classifier(LEVELS, 10).expand, nn.Identity)
    assert Classifier(LEVELS, 10).linear.in_features == 6
    assert Classifier(EXPANDED, 10).expand.conv.kernel_size == (1, 1)
    assert Classifier(EXPANDED, 10).linear.in_features == 24


def test_dropout_has_its_probability_and_is_active_only_in_training():
    torch.manual_seed(0)
    head = Classifier([Level(32, 2000)], 2000, dropout=0.3)
    nn.init.eye_(head.linear.weight)
    last = torch.ones(4, 2000, 2, 2)
    dropped = head([last])
    assert (dropped == 0).double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert dropped.max().item() == pytest.approx(1 / 0.7)
    assert torch.equal(head.eval()([last]), torch.ones(4, 2000))


def test_initial_weights_of_the_linear_layer_are_small():
    torch.manual_seed(0)
    head = Classifier([Level(32, 300)], 1000)
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert torch.count_nonzero(head.linear.bias) == 0
