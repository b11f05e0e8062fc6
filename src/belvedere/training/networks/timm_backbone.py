"""Pretrained networks: a timm model with its own preprocessing, pooling and one linear layer."""

import difflib
import math
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from belvedere.errors import UnknownNameError, UsageError, WeightsError
from belvedere.images.resize import INTERPOLATIONS
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.types.model import Preprocess

TABLE_DEPTH = 4  # of names such as "features.pool", "features.backbone.model.blocks" and the items of a list


class Normalize(nn.Module):
    """Normalizes bytes by the mean and standard deviation that the backbone was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalize (N, 3, H, W)."""
        return (pixels - self.mean) / self.std


class Pool(nn.Module):
    """Pools a backbone's tokens or feature map to one embedding.

    Tokens, (N, T, C), become the class token, if there is one, and the mean of the patch tokens; a map becomes its
    spatial mean.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.num_prefix_tokens = int(getattr(backbone, "num_prefix_tokens", 0))
        self.has_class_token = getattr(backbone, "cls_token", None) is not None  # other prefix tokens are registers
        self.channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the embeddings, (N, D), of outputs (N, T, C), (N, C, h, w) or (N, h, w, C)."""
        if outputs.ndim == 4:
            return outputs.mean((1, 2)) if self.channels_last else outputs.mean((2, 3))
        mean = outputs[:, self.num_prefix_tokens :].mean(1)
        return torch.cat([outputs[:, 0], mean], 1) if self.has_class_token else mean

    def spatial(self, outputs: Tensor) -> Tensor:
        """Return a map, (N, D, h, w), whose mean is the embedding; the class token is repeated at each position."""
        if outputs.ndim == 4:
            return outputs.permute(0, 3, 1, 2) if self.channels_last else outputs
        count, tokens, channels = outputs.shape
        size = math.isqrt(tokens - self.num_prefix_tokens)
        if size * size != tokens - self.num_prefix_tokens:  # not a square: the positions are unknown
            return self.forward(outputs)[:, :, None, None]
        patches = outputs[:, self.num_prefix_tokens :].transpose(1, 2).reshape(count, channels, size, size)
        if not self.has_class_token:
            return patches
        return torch.cat([outputs[:, 0, :, None, None].expand(-1, -1, size, size), patches], 1)


class Backbone(nn.Module):
    """A timm model without its classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the tokens, (N, T, C), or the feature map of normalized pixels."""
        outputs: Tensor = self.model.forward_features(pixels)
        if not isinstance(outputs, Tensor):
            raise TypeError(f"forward_features returns {type(outputs).__name__}, not one map or tokens")
        return outputs


class PretrainedNetwork(Network):
    """A timm backbone, pooling and a linear head."""

    max_table_depth = TABLE_DEPTH

    def __init__(
        self,
        num_classes: int,
        model: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        preprocess: Preprocess,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.features = nn.Sequential(
            OrderedDict(normalize=Normalize(mean, std), backbone=Backbone(model), pool=Pool(model))
        )
        self.classify = nn.Linear(_embedding_dim(self.features, preprocess), num_classes)

    @property
    def backbone(self) -> Any:
        """The timm model, whose methods torch does not declare."""
        return self.features.get_submodule("backbone.model")

    @property
    def is_vision_transformer(self) -> bool:
        """Whether the backbone is a plain vision transformer (Dosovitskiy et al. 2021)."""
        from timm.models import VisionTransformer

        return isinstance(self.backbone, VisionTransformer)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Return the backbone's map, (N, D, h, w), whose mean is the embedding."""
        outputs = self.features.get_submodule("backbone")(self.features.get_submodule("normalize")(pixels))
        return cast(Pool, self.features.get_submodule("pool")).spatial(outputs)

    def lr_scales(self, layer_decay: float) -> dict[str, float]:
        """Return a factor of the learning rate by parameter, lower by `layer_decay` for each block towards the input.

        timm's `group_matcher` defines the blocks.
        """
        numbers = self.block_numbers()
        num_blocks = max(numbers.values(), default=0) + 1
        return {name: layer_decay ** (num_blocks - block) for name, block in numbers.items()}

    def block_numbers(self) -> dict[str, int]:
        """Return the number of timm's layer group of each parameter of the backbone, from 0 at the input."""
        from timm.models import group_parameters

        if not hasattr(self.backbone, "group_matcher"):
            return {}
        matcher = self.backbone.group_matcher(coarse=False)
        groups = group_parameters(self.backbone, matcher, reverse=True)  # parameter name -> number of its group
        return {f"features.backbone.model.{name}": block for name, block in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """Return timm's names for the backbone, such as the position embeddings."""
        names: set[str] = getattr(self.backbone, "no_weight_decay", set)()
        return {f"features.backbone.model.{name}" for name in names}

    def load_backbone_weights(self, weights: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
        """Load the backbone's weights, by timm's names or those of older checkpoints; a classifier is ignored.

        The last layers of the backbone may be missing from the weights, each completely; they are then removed.

        Returns:
            The names of the removed layers.

        Raises:
            WeightsError: The weights belong to another architecture.
        """
        model = self.backbone
        heads = tuple(f"{layer}." for layer in _classifier_names(model))
        own, converted = model.state_dict().keys(), _convert(weights, model)
        converted = {key: value for key, value in converted.items() if key in own or not key.startswith(heads)}
        try:
            missing, unexpected = model.load_state_dict(converted, strict=False)
        except RuntimeError as error:  # shapes
            raise _wrong_architecture(name, model, str(error).splitlines()[-1].strip()) from error
        if unexpected:
            raise _wrong_architecture(name, model, f"{unexpected[0]} is unexpected")
        removed = dict.fromkeys(key.split(".")[0] for key in missing)  # layers, in order
        layers = [layer for layer, child in model.named_children() if any(True for _ in child.parameters())]
        expected = sum(_count_tensors(model.get_submodule(layer).state_dict()) for layer in removed if layer in layers)
        if (
            expected != _count_tensors(missing)
            or layers[len(layers) - len(removed) :] != list(removed)
            or len(removed) == len(layers)
        ):
            raise _wrong_architecture(name, model, f"{missing[0]} is missing")
        if removed:
            for layer in removed:
                setattr(model, layer, nn.Identity())
            self.classify = nn.Linear(_embedding_dim(self.features, self.preprocess), self.classify.out_features)
        return tuple(removed)


def find_backbone(name: str, image_size: int | None = None) -> ArchitectureSpec:
    """Return the architecture of a timm model that has pretrained weights, with or without their tag in its name.

    The image size, pixels, is by default that of the pretraining.

    Raises:
        UnknownNameError: timm has no such model with pretrained weights; the error suggests the closest.
        UsageError: The model expects images that are not square.
    """
    import timm

    try:
        config: Any = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the model exists, weights of that tag do not
        config = None
    if config is None:
        raise UnknownNameError("backbone of timm", name, _closest_names(name))
    default_size = int(config.input_size[-1])
    if config.fixed_input_size and default_size != config.input_size[-2]:
        raise UsageError(
            f"{name} expects images that are not square, which are not supported. Choose another `network`."
        )
    interpolation = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    size = image_size or default_size
    preprocess = Preprocess(size, size, "stretch", interpolation)
    options: dict[str, Any] = {"img_size": image_size} if config.fixed_input_size and image_size else {}

    def create(num_classes: int) -> Network:
        try:
            return PretrainedNetwork(num_classes, _create_model(name, options), config.mean, config.std, preprocess)
        except TypeError as error:
            raise UsageError(f"{name} cannot be used as a backbone: {error}. Choose another `network`.") from error
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"{name} does not accept images of {size} x {size} pixels. Choose another `image_size`, such "
                f"as {default_size}."
            ) from error

    return ArchitectureSpec(
        name=name,
        summary=f"timm's {config.architecture}, weights {config.tag or 'without a tag'}",
        source="timm" + (f", huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else ""),
        license=config.license or "not stated: ask its authors",
        preprocess=preprocess,
        create=create,
        any_size=False,
        repository=config.hf_hub_id or "",
    )


def _closest_names(name: str) -> list[str]:
    """Return the pretrained weights of the model with the closest name."""
    import timm

    by_model: dict[str, list[str]] = {}
    for each in timm.list_models(pretrained=True):
        by_model.setdefault(each.split(".")[0], []).append(each)
    return by_model[difflib.get_close_matches(name.split(".")[0], by_model, n=1, cutoff=0.0)[0]]


def _create_model(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm warns of models that it has renamed
        try:  # transformers interpolate their position embeddings, so that fine-tuning may start with small images
            return timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
        except TypeError:
            return timm.create_model(name, num_classes=0, **options)


@torch.no_grad()
def _embedding_dim(features: nn.Module, preprocess: Preprocess) -> int:
    features.eval()
    return int(features(torch.zeros(1, 3, preprocess.height, preprocess.width)).shape[1])


def _convert(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Convert a checkpoint to this model, such as its number of positions, with timm's own converter."""
    converter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    plain = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    try:
        converted: dict[str, Tensor] = converter(plain, model) if converter else plain
    except (KeyError, RuntimeError, AttributeError, IndexError, ValueError):
        return plain  # of another format: the comparison with the model reports the difference
    return converted


def _classifier_names(model: Any) -> tuple[str, ...]:
    """Return the names of timm's classifier modules: "head" for a layer "head.linear" beside a "head.bn"."""
    names = model.pretrained_cfg.get("classifier") or ()
    return tuple({name.split(".")[0] for name in ((names,) if isinstance(names, str) else names)})


def _count_tensors(keys: Iterable[str]) -> int:
    """Count tensors without batch norm's counters, which older checkpoints lack."""
    return sum(not key.endswith("num_batches_tracked") for key in keys)


def _wrong_architecture(name: str, model: Any, reason: str) -> WeightsError:
    architecture = model.pretrained_cfg.get("architecture")
    return WeightsError(
        f"{name} contains weights of another architecture than {architecture}: {reason}. "
        "Set `weights` and `network` to those that belong together."
    )
