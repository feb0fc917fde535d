"""Networks of about the same size that came after ParC-Net, with their published numbers.

Top-1, size and teacher were read in the READMEs of EdgeNeXt, RepViT, FastViT, ConvNeXt V2 and
ParCNetV2, in RepViT's main.py (its teacher), on Apple's card of FastViT-T8 (its size), on timm's
card of MobileNetV4, and in the tables of the papers of MobileNetV4 and StarNet. RepViT's top-1
without a teacher has not been checked against its paper.
"""

from __future__ import annotations

from parcnet_train.report.paper.tables import IMAGENET, Row, with_own_classifier


def later(
    number: int,
    model: str,
    parameters: float,
    top1: float,
    backbone: str,
    teacher: str,
    source: str,
    size: tuple[int, int] = IMAGENET,
    note: str = "",
) -> Row:
    """Return a row: what its publisher prints, and whether it was trained with a teacher."""
    return Row(
        number,
        model,
        parameters,
        top1,
        overrides=with_own_classifier(backbone),
        size=size,
        columns=(("teacher", teacher), ("source", source)),
        note=note,
    )


LARGE = (256, 256)
BRANCHES = "ours has the branches of its training"
# The numbers of a row stay on one line.
# fmt: off
TODAY = (
    later(
        1, "EdgeNeXt-S", 5.6, 79.4, "edgenext_small", "none", "arXiv 2206.10589", LARGE,
        "with a teacher 81.1",
    ),
    later(
        2, "RepViT-M0.9", 5.1, 78.7, "repvit_m0_9", "RegNetY-16GF", "arXiv 2307.09283",
        note=f"without a teacher 77.4; {BRANCHES}, which action=export fuses to 5,067,056",
    ),
    later(
        3, "FastViT-T8", 3.6, 76.2, "fastvit_t8", "none", "github.com/apple/ml-fastvit", LARGE,
        f"with a teacher 77.2; {BRANCHES}, which action=export fuses to 3,996,040; why it "
        "prints 3.6 M is unknown",
    ),
    later(
        4, "MobileNetV4-Conv-M", 9.7, 79.9, "mobilenetv4_conv_medium", "none",
        "timm, e500_r256_in1k", LARGE, "arXiv 2404.10518 prints 9.2 M and 79.9 as well",
    ),
    later(
        5, "ConvNeXt V2-F", 5.2, 78.5, "convnextv2_femto", "none", "arXiv 2301.00808",
        note="after masked autoencoding on the same images",
    ),
    later(6, "StarNet-S3", 5.8, 77.3, "starnet_s3", "none", "arXiv 2403.19967"),
    Row(
        7, "ParCNetV2-XT", 7.4, 79.4,
        overrides=("backbone=parcnetv2_xt",),
        size=IMAGENET,
        columns=(("teacher", "none"), ("source", "arXiv 2211.07157")),
    ),
    Row(
        8, "ParC-Net-S", 5.0, 78.6,
        overrides=("backbone=parcnet_s",),
        columns=(("teacher", "none"), ("source", "arXiv 2203.03952")),
    ),
)
# fmt: on
