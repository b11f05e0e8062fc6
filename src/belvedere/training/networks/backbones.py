"""Selected pretrained backbones, from small and fast to large; `benchmarks/backbones.py` measures their figures."""

from belvedere.types.model import NetworkInfo

BACKBONES = (
    NetworkInfo("mobilenetv4_conv_small.e2400_r224_in1k", 2.5, 224, "apache-2.0", 187, "fastest"),
    NetworkInfo("resnet18.a1_in1k", 11.2, 224, "apache-2.0", 80, "plain and well known"),
    NetworkInfo("tf_efficientnet_b0.ns_jft_in1k", 4.0, 224, "apache-2.0", 64, "small file"),
    NetworkInfo(
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        5.5,
        224,
        "apache-2.0",
        75,
        "the default: trained on 21,000 classes",
    ),
    NetworkInfo(
        "vit_small_patch16_224.augreg_in21k_ft_in1k",
        21.7,
        224,
        "apache-2.0",
        29,
        "more accurate, at a third of the speed",
    ),
    NetworkInfo("resnet50.a1_in1k", 23.5, 224, "apache-2.0", 36, "common baseline"),
    NetworkInfo("convnext_tiny.in12k_ft_in1k", 27.8, 224, "apache-2.0", 27, "accurate, and fine-tunes well"),
    NetworkInfo("vit_base_patch16_224.augreg2_in21k_ft_in1k", 85.8, 224, "apache-2.0", 8, "for a GPU"),
    NetworkInfo("vit_small_patch14_dinov2.lvd142m", 22.1, 518, "apache-2.0", 2, "self-supervised; large images"),
)
