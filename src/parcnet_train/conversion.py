"""State dicts of the authors' implementations, renamed to the keys of ours.

Covers classification checkpoints of ParC-Net (EdgeFormer, December 2022) and of MobileViT from
ml-cvnets v0.1, which take BGR images: the first convolution is turned round to take RGB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Tried in this order, each on the result of the one before.
_RENAMES = (
    (r"^conv_1\.", r"backbone.stages.0.0."),
    (r"^layer_1\.0\.", r"backbone.stages.0.1."),
    (r"^layer_2\.", r"backbone.stages.1."),
    (r"^layer_3\.", r"backbone.stages.2."),
    (r"^layer_4\.", r"backbone.stages.3."),
    (r"^layer_5\.", r"backbone.stages.4."),
    (r"^conv_1x1_exp\.", r"head.expand."),
    (r"^classifier\.fc\.", r"head.linear."),
    # Inverted residuals.
    (r"\.block\.exp_1x1\.", r".expand."),
    (r"\.block\.conv_3x3\.", r".depthwise."),
    (r"\.block\.red_1x1\.", r".project."),
    # ParC-Net's stages and blocks.
    (r"\.dim_adaptive\.0\.", r".local.0."),
    (r"\.dim_adaptive\.1\.block\.conv\.", r".local.1."),
    (r"\.channel_adaptive\.", r".project."),
    (r"\.local_global_fusion\.", r".fuse."),
    (r"\.spatial_global_rep\.", r".blocks."),
    (r"\.meta_kernel_1_H$", r".mixer.height_first.first.weight"),
    (r"\.meta_kernel_1_W$", r".mixer.width_first.first.weight"),
    (r"\.meta_kernel_2_W$", r".mixer.height_first.second.weight"),
    (r"\.meta_kernel_2_H$", r".mixer.width_first.second.weight"),
    (r"\.meta_pe_1_H$", r".mixer.height_first.first_embedding.weight"),
    (r"\.meta_pe_1_W$", r".mixer.width_first.first_embedding.weight"),
    (r"\.meta_pe_2_W$", r".mixer.height_first.second_embedding.weight"),
    (r"\.meta_pe_2_H$", r".mixer.width_first.second_embedding.weight"),
    (r"\.pre_Norm_1\.", r".mixer.height_first.norm."),
    (r"\.pre_Norm_2\.", r".mixer.width_first.norm."),
    (r"\.ffn\.([01])\.", r".mlp.\1."),
    (r"\.ffn\.4\.", r".mlp.3."),
    (r"\.ca\.fc\.0\.", r".attention.squeeze.conv."),
    (r"\.ca\.fc\.1\.", r".attention.squeeze.norm."),
    (r"\.ca\.fc\.3\.", r".attention.excite.conv."),
    (r"\.ca\.fc\.4\.", r".attention.excite.norm."),
    # MobileViT's stages and layers.
    (r"\.local_rep\.conv_3x3\.", r".local.0."),
    (r"\.local_rep\.conv_1x1\.block\.conv\.", r".local.1."),
    (r"\.global_rep\.", r".blocks."),
    (r"\.pre_norm_mha\.0\.", r".attention_norm."),
    (r"\.pre_norm_mha\.1\.qkv_proj\.", r".qkv."),
    (r"\.pre_norm_mha\.1\.out_proj\.", r".attention_project."),
    (r"\.pre_norm_ffn\.([01])\.", r".mlp.\1."),
    (r"\.pre_norm_ffn\.4\.", r".mlp.3."),
    (r"\.conv_proj\.", r".project."),
    (r"\.fusion\.", r".fuse."),
    (r"\.block\.(conv|norm)\.", r".\1."),
)


def convert_state_dict(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the entries of a released classification state dict to those of `Model`.

    Args:
        released: bare state dict, as the authors published it.

    Returns:
        A state dict for `Model`; entries under `residual.` are aliases of the last stage's inverted
        residual and are left out.
    """
    converted = {}
    for key, value in released.items():
        if key.startswith("residual."):
            continue
        for pattern, replacement in _RENAMES:
            key = re.sub(pattern, replacement, key)
        converted[key] = value
    first = "backbone.stages.0.0.conv.weight"
    converted[first] = converted[first].flip(1)  # BGR to RGB
    return converted
