"""Parts of a baked MobileViT."""

import pytest
import torch
from torch import nn

from parcnet_train.deploy.bake.transformer import (
    FixedMobileViTStage,
    FixedTransformerLayer,
    rows_of,
)
from parcnet_train.models.backbones.mobilevit import MobileViTStage, TransformerLayer


def test_rows_of_a_linear_layer_compute_some_of_its_outputs():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 6).double(), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(rows_of(layer, 2, 3, 0.5)(x), 0.5 * layer(x)[:, 2:5])


@torch.no_grad()
def test_baked_attention_matches_at_its_sequence_length():
    torch.manual_seed(0)
    layer = TransformerLayer(8, heads=2, dropout=0.1).double().eval()
    x = torch.randn(3, 10, 8, dtype=torch.float64)
    torch.testing.assert_close(FixedTransformerLayer(layer, 10)(x), layer(x))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)], ids=str)
@torch.no_grad()
def test_baked_stage_matches_at_even_and_odd_map_sizes(size):
    torch.manual_seed(0)
    stage = MobileViTStage(6, 8, 2, 4, dropout=0.0, dilation=1).double().eval()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(FixedMobileViTStage(stage, size)(x), stage(x))
