"""Pretrained backbones worth starting with, from small and quick to large; any other of timm's works as well.

Knows what was measured of them: `benchmarks/backbones.py` prints these figures.
"""

from belvedere.types.model import CuratedBackbone

BACKBONES = (
    CuratedBackbone("mobilenetv4_conv_small.e2400_r224_in1k", 2.5, 224, "apache-2.0", 187, "the quickest"),
    CuratedBackbone("resnet18.a1_in1k", 11.2, 224, "apache-2.0", 80, "plain and well known"),
    CuratedBackbone("tf_efficientnet_b0.ns_jft_in1k", 4.0, 224, "apache-2.0", 64, "small file"),
    CuratedBackbone(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.5, 224, "apache-2.0", 75, "the default: saw 21,000 classes"
    ),
    CuratedBackbone(
        "vit_small_patch16_224.augreg_in21k_ft_in1k",
        21.7,
        224,
        "apache-2.0",
        29,
        "more accurate, at a third of the speed",
    ),
    CuratedBackbone("resnet50.a1_in1k", 23.5, 224, "apache-2.0", 36, "what others compare with"),
    CuratedBackbone("convnext_tiny.in12k_ft_in1k", 27.8, 224, "apache-2.0", 27, "accurate, and fine-tunes well"),
    CuratedBackbone("vit_base_patch16_224.augreg2_in21k_ft_in1k", 85.8, 224, "apache-2.0", 8, "for a GPU, or patience"),
    CuratedBackbone(
        "vit_small_patch14_dinov2.lvd142m", 22.1, 518, "apache-2.0", 2, "learnt without labels; large pictures"
    ),
)


def list_models() -> tuple[CuratedBackbone, ...]:
    """Lists pretrained backbones worth starting with."""
    return BACKBONES
