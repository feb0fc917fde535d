import pytest
import torch
from torch.nn import functional

from parcnet_train.segmentation import upsample as enlarge
from parcnet_train.segmentation.upsample import classes_at, covered, enlarged


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(37, 53), (16, 20), (7, 9), (64, 80)])
def test_bands_match_rows_of_the_whole_upsampled_map(mode, size):
    logits = torch.randn(5, 16, 20, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(logits[None], size, mode=mode)[0]
    bands = [
        enlarged(logits, size, start, min(start + 5, size[0]), mode)
        for start in range(0, size[0], 5)
    ]
    torch.testing.assert_close(torch.cat(bands, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_classes_of_all_bands_match_the_whole_map(monkeypatch):
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(logits[None], (50, 40), mode="nearest")[0].argmax(dim=0)
    monkeypatch.setattr(enlarge, "BAND", 3 * 40 * 7)  # seven rows
    assert torch.equal(classes_at(logits, (50, 40), "nearest").long(), expected)


def test_covered_rows_and_columns_follow_the_placement():
    # 480x640 at half its size, under 40 rows of padding.
    rows, columns = covered((480, 640), torch.tensor([0.5, 0.5, 0.0, 40.0]))
    assert (rows, columns) == (slice(40, 280), slice(0, 320))
