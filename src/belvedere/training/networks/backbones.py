"""Selected pretrained backbones, from small and fast to large; `benchmarks/backbones.py` measures their speed."""

from belvedere.types.model import NetworkInfo

BACKBONES = tuple(
    NetworkInfo(name, parameters, image_size, "apache-2.0", images_per_second, summary)
    for name, parameters, image_size, images_per_second, summary in (
        ("mobilenetv4_conv_small.e2400_r224_in1k", 2.5, 224, 187, "fastest"),
        ("resnet18.a1_in1k", 11.2, 224, 80, "plain and well known"),
        ("tf_efficientnet_b0.ns_jft_in1k", 4.0, 224, 64, "small file"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.5, 224, 75, "the default: trained on 21,000 classes"),
        ("vit_small_patch16_224.augreg_in21k_ft_in1k", 21.7, 224, 29, "more accurate, at a third of the speed"),
        ("resnet50.a1_in1k", 23.5, 224, 36, "common baseline"),
        ("convnext_tiny.in12k_ft_in1k", 27.8, 224, 27, "accurate, and fine-tunes well"),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", 85.8, 224, 8, "for a GPU"),
        ("vit_small_patch14_dinov2.lvd142m", 22.1, 518, 2, "self-supervised; large images"),
    )
)
