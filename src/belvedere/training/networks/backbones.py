"""Selected pretrained backbones, from fast to slow; `benchmarks/backbones.py` measures their speed.

The accuracies are those of results/results-imagenet.csv of timm at commit aa4b585, at the image size of this list.
"""

from belvedere.types.model import NetworkInfo

BACKBONES = tuple(
    NetworkInfo(name, parameters, image_size, "apache-2.0", images_per_second, summary, accuracy)
    for name, parameters, image_size, images_per_second, accuracy, summary in (
        ("mobilenetv4_conv_small.e2400_r224_in1k", 2.5, 224, 174, 0.73756, "fastest"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.5, 224, 61, 0.75452, "the default: trained on 21,000 classes"),
        ("hgnetv2_b0.ssld_stage2_ft_in1k", 3.9, 224, 57, 0.77362, "small and accurate"),
        ("levit_256.fb_dist_in1k", 17.9, 224, 54, 0.81506, "accurate for its speed"),
        ("mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", 9.8, 256, 34, 0.8236, "trained on 12,000 classes"),
        ("hgnetv2_b2.ssld_stage2_ft_in1k", 9.2, 224, 30, 0.81564, "convolutions only"),
        ("convnext_tiny.in12k_ft_in1k", 27.8, 224, 22, 0.84192, "accurate, and fine-tunes well"),
        ("tiny_vit_11m_224.dist_in22k_ft_in1k", 10.5, 224, 15, 0.83232, "accurate for its size"),
        ("tiny_vit_21m_224.dist_in22k_ft_in1k", 20.6, 224, 10, 0.85088, "most accurate"),
        ("vit_small_patch14_dinov2.lvd142m", 22.1, 518, 1, None, "self-supervised; large images"),
    )
)
