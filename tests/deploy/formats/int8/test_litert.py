"""LiteRT files in int8."""

import numpy as np
import pytest

from exporting import images_of, outputs_of, written
from lively import lively, used_to_images
from parcnet_train.deploy.exportable import as_input
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.int8 import litert
from parcnet_train.deploy.formats.int8.litert import QuantizableLitert
from parcnet_train.deploy.formats.litert import count_litert
from parcnet_train.errors import TrainingError

SIZE = (64, 96)


def test_a_failed_quantization_names_the_new_file(tmp_path, monkeypatch):
    source, path = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    source.touch()
    monkeypatch.setattr(litert, "description_of", lambda _: {})
    monkeypatch.setattr(QuantizableLitert, "quantized", lambda *_: {}["INPUT"])
    with pytest.raises(
        TrainingError, match=r"int8\.tflite: LiteRT cannot quantize.*'INPUT'"
    ) as found:
        QuantizableLitert(source, [], tmp_path).write(path)
    assert str(source) not in str(found.value)


@pytest.mark.runtimes
def test_int8_computes_nearly_the_same(tmp_path):
    model = used_to_images(lively("mobilevit_xxs"), SIZE)
    source, path = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    written("litert", model, SIZE, source, preprocess=True)
    images = [(255 * each[None]).round() / 255 for each in images_of(SIZE, 8)]
    QuantizableLitert(source, [each.numpy() for each in images], tmp_path).write(path)
    assert path.stat().st_size < 0.4 * source.stat().st_size
    file, counts = FORMATS["litert"].open(path), count_litert(path)
    assert file.metadata["precision"] == "int8"
    assert counts["CONV_2D"] == count_litert(source)["CONV_2D"]
    assert "QUANTIZE" in counts
    (expected,) = outputs_of(model, images[0])
    (found,) = file.run(as_input(images[0].numpy(), file.metadata)).values()
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected.numpy()).mean() < 0.2 * float(expected.std())
