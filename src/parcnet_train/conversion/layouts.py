"""Layouts of published state dicts: regular expressions for their names, and our names.

A new layout needs a table of renames and a row in `LAYOUTS`.
"""

from __future__ import annotations

from dataclasses import dataclass

Renames = tuple[tuple[str, str], ...]

LAST = ".blocks.last."  # the norm after a stage's blocks, in layouts that do not number it


@dataclass(frozen=True)
class Layout:
    """Layout of one publisher's state dicts for one family of networks.

    Attributes:
        renames: Regular expressions and replacements, applied in this order, each one to the result
            of the previous one.
        bgr_stem: Our name of the first convolution if the published network takes BGR images; None
            if it takes RGB images.
        aliases: Prefixes of published names that repeat other entries, or hold constants.
        image_size: Side of the images, in pixels, at which the publisher evaluates a classifier;
            None stands for that of the paper's recipe for the task, 256, 320 or 512.
        native: Whether the published classifier is the network's own, which `head=native` takes.
        class_rows: Our names of the position embeddings whose first row, in the file, belongs to
            the class token; and of the entries that have this row here.
        per_channel: Last parts of our names of factors `(C, 1, 1)` that are `(C,)` in the file.
    """

    renames: Renames
    bgr_stem: str | None = None
    aliases: tuple[str, ...] = ()
    image_size: int | None = None
    native: bool = False
    class_rows: Renames = ()
    per_channel: tuple[str, ...] = ()


# The authors' ParC-Net ("EdgeFormer", December 2022) and MobileViT of apple/ml-cvnets v0.1, from
# which it is derived. Detection and segmentation networks call the backbone `encoder`.
CVNETS = Layout(
    (
        (r"^encoder\.", r""),
        (r"^conv_1\.", r"backbone.stages.0.0."),
        (r"^layer_1\.0\.", r"backbone.stages.0.1."),
        (r"^layer_2\.", r"backbone.stages.1."),
        (r"^layer_3\.", r"backbone.stages.2."),
        (r"^layer_4\.", r"backbone.stages.3."),
        (r"^layer_5\.", r"backbone.stages.4."),
        (r"^conv_1x1_exp\.", r"head.expand."),
        (r"^classifier\.fc\.", r"head.linear."),
        # Detectors.
        (r"^extra_layers\.os_64\.", r"head.extra.0."),
        (r"^extra_layers\.os_128\.", r"head.extra.1."),
        (r"^extra_layers\.os_256\.", r"head.extra.2."),
        (r"^extra_layers\.os_-1\.1\.block\.conv\.", r"head.pooled.0."),
        (r"^ssd_heads\.(\d)\.proj_layer\.", r"head.projections.\1."),
        (r"^ssd_heads\.(\d)\.loc_cls_layer\.block\.conv\.", r"head.predictors.\1."),
        (r"^ssd_heads\.(\d)\.loc_cls_layer\.pw_conv\.block\.conv\.", r"head.predictors.\1.1."),
        (r"^ssd_heads\.(\d)\.loc_cls_layer\.", r"head.predictors.\1."),
        (r"\.dw_conv\.", r".0."),
        (r"^(head\.extra\.\d)\.pw_conv\.", r"\1.1."),
        # Segmentation networks.
        (r"^seg_head\.classifier\.classifier\.block\.conv\.", r"head.classifier."),
        (r"^seg_head\.aspp\.aspp_layer\.", r"head.aspp."),
        (r"^head\.aspp\.convs\.", r"head.aspp.branches."),
        (r"\.aspp_pool\.conv_1x1\.", r".1."),
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
    ),
    bgr_stem="backbone.stages.0.0.conv.weight",
    # The released network registers the inverted residual of the last stage twice.
    aliases=("residual.", "encoder.residual."),
)

TIMM_MOBILEVIT = Layout(
    (
        (r"^stem\.", r"backbone.stages.0.0."),
        (r"^stages\.0\.0\.", r"backbone.stages.0.1."),
        (r"^stages\.", r"backbone.stages."),
        (r"^final_conv\.", r"head.expand."),
        (r"^head\.fc\.", r"head.linear."),
        (r"\.conv1_1x1\.", r".expand."),
        (r"\.conv2_kxk\.", r".depthwise."),
        (r"\.conv3_1x1\.", r".project."),
        (r"\.conv_kxk\.", r".local.0."),
        (r"\.conv_1x1\.", r".local.1."),
        (r"\.conv_proj\.", r".project."),
        (r"\.conv_fusion\.", r".fuse."),
        (r"^(backbone\.stages\.\d\.1)\.norm\.", rf"\1{LAST}"),
        (r"\.bn\.", r".norm."),
        (r"\.transformer\.", r".blocks."),
        (r"\.norm1\.", r".attention_norm."),
        (r"\.attn\.qkv\.", r".qkv."),
        (r"\.attn\.proj\.", r".attention_project."),
        (r"\.norm2\.", r".mlp.0."),
        (r"\.mlp\.fc1\.", r".mlp.1."),
        (r"\.mlp\.fc2\.", r".mlp.3."),
    ),
)

# transformers' MobileViTForImageClassification. The weights of apple/mobilevit-small and its other
# sizes are those of ml-cvnets, so they take BGR (the image processor flips the channels).
HUGGINGFACE_MOBILEVIT = Layout(
    (
        (r"^mobilevit\.", r""),
        (r"^conv_stem\.", r"backbone.stages.0.0."),
        (r"^encoder\.layer\.0\.layer\.0\.", r"backbone.stages.0.1."),
        (r"^encoder\.layer\.1\.layer\.", r"backbone.stages.1."),
        (r"^encoder\.layer\.(\d)\.downsampling_layer\.", r"backbone.stages.\1.0."),
        (r"^encoder\.layer\.(\d)\.", r"backbone.stages.\1.1."),
        (r"^conv_1x1_exp\.", r"head.expand."),
        (r"^classifier\.", r"head.linear."),
        (r"\.expand_1x1\.", r".expand."),
        (r"\.conv_3x3\.", r".depthwise."),
        (r"\.reduce_1x1\.", r".project."),
        (r"\.conv_kxk\.", r".local.0."),
        (r"\.conv_1x1\.convolution\.", r".local.1."),
        (r"\.conv_projection\.", r".project."),
        (r"\.fusion\.", r".fuse."),
        (r"\.layernorm\.", LAST),
        (r"\.transformer\.layer\.", r".blocks."),
        (r"\.layernorm_before\.", r".attention_norm."),
        (r"\.attention\.attention\.(query|key|value)\.", r".qkv.\1."),
        (r"\.attention\.output\.dense\.", r".attention_project."),
        (r"\.layernorm_after\.", r".mlp.0."),
        (r"\.intermediate\.dense\.", r".mlp.1."),
        (r"\.output\.dense\.", r".mlp.3."),
        (r"\.convolution\.", r".conv."),
        (r"\.normalization\.", r".norm."),
    ),
    bgr_stem="backbone.stages.0.0.conv.weight",
)

# transformers' PvtForImageClassification, such as Zetatech/pvt-tiny-224.
HUGGINGFACE_PVT = Layout(
    (
        (r"^pvt\.encoder\.patch_embeddings\.3\.cls_token$", r"backbone.stages.3.class_token"),
        (
            r"^pvt\.encoder\.patch_embeddings\.(\d)\.position_embeddings$",
            r"backbone.stages.\1.embed.position",
        ),
        (r"^pvt\.encoder\.patch_embeddings\.(\d)\.layer_norm\.", r"backbone.stages.\1.embed.norm."),
        (r"^pvt\.encoder\.patch_embeddings\.(\d)\.", r"backbone.stages.\1.embed."),
        (r"^pvt\.encoder\.block\.(\d)\.(\d+)\.", r"backbone.stages.\1.blocks.\2."),
        (r"^pvt\.encoder\.layer_norm\.", r"backbone.stages.3.class_norm."),
        (r"^classifier\.", r"head.classifier."),
        (r"\.attention\.self\.sequence_reduction\.", r".attention.reduce."),
        (r"\.attention\.self\.layer_norm\.", r".attention.norm."),
        (r"\.attention\.self\.", r".attention."),
        (r"\.attention\.output\.dense\.", r".attention.project."),
        (r"\.layer_norm_1\.", r".attention_norm."),
        (r"\.layer_norm_2\.", r".mlp_norm."),
        (r"\.mlp\.dense1\.", r".mlp.0."),
        (r"\.mlp\.dense2\.", r".mlp.2."),
    ),
    image_size=224,
    native=True,
    class_rows=(("backbone.stages.3.embed.position", "backbone.stages.3.class_position"),),
)

# The authors' T2T-ViT with performers; its positions are constants, which are not read.
T2T_VIT = Layout(
    (
        (r"^cls_token$", r"backbone.stages.2.class_token"),
        (r"^tokens_to_token\.attention1\.", r"backbone.stages.0.performer."),
        (r"^tokens_to_token\.attention2\.", r"backbone.stages.1.performer."),
        (r"^tokens_to_token\.", r"backbone.stages.2."),
        (r"^blocks\.", r"backbone.stages.2.layers."),
        (r"^norm\.", r"backbone.stages.2.norm."),
        (r"^head\.", r"head.classifier."),
        (r"\.performer\.w$", r".performer.projections"),
        (r"\.attn\.qkv\.", r".qkv."),
        (r"\.(?:attn\.)?proj\.", r".project."),
        (r"\.norm1\.", r".attention_norm."),
        (r"\.norm2\.", r".mlp_norm."),
        (r"\.mlp\.fc1\.", r".mlp.0."),
        (r"\.mlp\.fc2\.", r".mlp.2."),
    ),
    aliases=("pos_embed",),
    image_size=224,
    native=True,
)

TORCHVISION_RESNET = Layout(
    ((r"^fc\.", r"head.linear."), (r"^(conv1|bn1|layer\d)\.", r"backbone.network.\1.")),
    image_size=224,
)

TORCHVISION_MOBILENETV2 = Layout(
    (
        (r"^features\.18\.0\.", r"head.expand.conv."),
        (r"^features\.18\.1\.", r"head.expand.norm."),
        (r"^classifier\.1\.", r"head.linear."),
        (r"^features\.", r"backbone.network.features."),
    ),
    image_size=224,
)

TORCHVISION_CONVNEXT = Layout(
    (
        (r"^classifier\.0\.", r"head.norm."),
        (r"^classifier\.2\.", r"head.linear."),
        (r"^features\.", r"backbone.network.features."),
    ),
    image_size=224,
)

# Both halves of ParC in the authors' ParC-ResNet-50, ParC-MobileNetV2 and ParC-ConvNeXt, below our
# name of the convolution that it replaces. These networks take RGB images, as torchvision's do.
PARC_HALVES = (
    (r"\.(?:parc|gcc)_H\.pe$", r".height.0.weight"),
    (r"\.(?:parc|gcc)_W\.pe$", r".width.0.weight"),
    (r"\.(?:parc|gcc)_H\.gcc_conv\.", r".height.1."),
    (r"\.(?:parc|gcc)_W\.gcc_conv\.", r".width.1."),
)

# The authors' ParC-ResNet-50: torchvision's names except for ParC.
PARC_RESNET = Layout(
    (
        (r"\.(parc_[HW])\.", r".conv2.\1."),
        *PARC_HALVES,
        *TORCHVISION_RESNET.renames,
    ),
    image_size=224,
)

# The authors' ParC-MobileNetV2: torchvision's names except for the blocks with ParC.
PARC_MOBILENETV2 = Layout(
    (
        (r"\.pw_expand\.", r".conv.0."),
        (r"\.(gcc_[HW])\.", r".conv.1.0.\1."),
        (r"\.bn\.", r".conv.1.1."),
        (r"\.pw_linear\.0\.", r".conv.2."),
        (r"\.pw_linear\.1\.", r".conv.3."),
        *PARC_HALVES,
        *TORCHVISION_MOBILENETV2.renames,
    ),
    image_size=224,
)

# The authors' ParC-ConvNeXt, with the names of ConvNeXt's own authors. torchvision counts the
# downsampling layers and the stages as one sequence.
PARC_CONVNEXT = Layout(
    (
        *(
            (rf"^downsample_layers\.{k}\.", rf"backbone.network.features.{2 * k}.")
            for k in range(4)
        ),
        *((rf"^stages\.{k}\.", rf"backbone.network.features.{2 * k + 1}.") for k in range(4)),
        (r"^norm\.", r"head.norm."),
        (r"^head\.(?!norm\.)", r"head.linear."),
        (r"\.gamma$", r".layer_scale"),
        (r"\.dwconv\.", r".block.0."),
        (r"\.(gcc_[HW])\.", r".block.0.\1."),
        (r"^(backbone\.network\.features\.[1357]\.\d+)\.norm\.", r"\1.block.2."),
        (r"\.pwconv1\.", r".block.3."),
        (r"\.pwconv2\.", r".block.5."),
        *PARC_HALVES,
    ),
    image_size=224,
    per_channel=("layer_scale",),
)

# By publisher, then by the class of the backbone.
LAYOUTS = {
    "parcnet-official": {
        "ParCNet": CVNETS,
        "MobileViT": CVNETS,
        "ResNet": PARC_RESNET,
        "MobileNetV2": PARC_MOBILENETV2,
        "ConvNeXt": PARC_CONVNEXT,
    },
    "cvnets": {"MobileViT": CVNETS},
    "t2t-vit-official": {"T2TViT": T2T_VIT},
    "timm": {"MobileViT": TIMM_MOBILEVIT},
    "huggingface": {"MobileViT": HUGGINGFACE_MOBILEVIT, "PVT": HUGGINGFACE_PVT},
    "torchvision": {
        "ResNet": TORCHVISION_RESNET,
        "MobileNetV2": TORCHVISION_MOBILENETV2,
        "ConvNeXt": TORCHVISION_CONVNEXT,
    },
}
