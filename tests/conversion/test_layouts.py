"""Layouts of published weights."""

import torch

import golden
from converting import refused
from documentation import DOCS
from parcnet_train.conversion.layouts import LAYOUTS


def test_missing_part_of_query_key_and_value_is_listed(tmp_path):
    state = golden.state_dict(golden.read("mobilevit_xxs_huggingface"))
    layer = "mobilevit.encoder.layer.2.transformer.layer.0.attention.attention"
    del state[f"{layer}.key.bias"]
    torch.save(state, tmp_path / "published.bin")
    lines = refused(tmp_path / "published.bin", publisher="huggingface").splitlines()
    assert lines[1:] == [
        "missing: backbone.stages.2.1.blocks.0.qkv.bias",
        f"unexpected: {layer}.query.bias",
        f"unexpected: {layer}.value.bias",
    ]


def test_second_entry_of_the_same_name_is_unexpected(reference, tmp_path):
    state = {**reference.state_dict(), "head.linear.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "published.pt")
    assert "unexpected: head.linear.bias" in refused(tmp_path / "published.pt")


def test_every_publisher_is_documented():
    page = (DOCS / "guides" / "weights.md").read_text("utf-8")
    assert [name for name in LAYOUTS if f"\n| `{name}` |" not in page] == []
