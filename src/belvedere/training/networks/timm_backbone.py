"""Pretrained networks: any of timm's, its pictures prepared as it was trained with, ending in one linear layer.

Knows what timm says of its models and how a map or tokens become one embedding; does not know where weights come from
or how they are learnt from.
"""

import difflib
import math
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from belvedere.errors import UnknownNameError, UsageError, WeightsError
from belvedere.images.resize import INTERPOLATIONS
from belvedere.training.networks.registry import ArchitectureSpec, Network
from belvedere.types.model import Preprocess

BLOCKS_DEPTH = 4  # of a name such as "features.tokens.backbone.blocks" and what is counted in it


class Normalise(nn.Module):
    """Bytes to what the backbone was trained on."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(deviation).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Shifts and scales (N, 3, H, W)."""
        return (pixels - self.mean) / self.deviation


class Summary(nn.Module):
    """A backbone's last tokens or map as one embedding.

    Of tokens, (N, T, C), the class token, where there is one, beside the mean of the places' tokens; of a map the mean
    over its places.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.prefix = int(getattr(backbone, "num_prefix_tokens", 0))  # tokens that stand for no place
        self.classed = getattr(backbone, "cls_token", None) is not None  # the others are registers
        self.channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"

    def forward(self, seen: Tensor) -> Tensor:
        """(N, T, C), (N, C, h, w) or (N, h, w, C) -> (N, D)."""
        if seen.ndim == 4:
            return seen.mean((1, 2)) if self.channels_last else seen.mean((2, 3))
        places = seen[:, self.prefix :].mean(1)
        return torch.cat([seen[:, 0], places], 1) if self.classed else places

    def place(self, seen: Tensor) -> Tensor:
        """The same before the mean, (N, D, h, w): the class token, which stands for no place, is at each of them."""
        if seen.ndim == 4:
            return seen.permute(0, 3, 1, 2) if self.channels_last else seen
        count, tokens, channels = seen.shape
        side = math.isqrt(tokens - self.prefix)
        if side * side != tokens - self.prefix:  # not a square of places: nothing tells which is where
            return self.forward(seen)[:, :, None, None]
        places = seen[:, self.prefix :].transpose(1, 2).reshape(count, channels, side, side)
        if not self.classed:
            return places
        return torch.cat([seen[:, 0, :, None, None].expand(-1, -1, side, side), places], 1)


class Backbone(nn.Module):
    """One of timm's models without its classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels to tokens (N, T, C), or a map."""
        seen: Tensor = self.model.forward_features(pixels)  # type: ignore[operator]
        if not isinstance(seen, Tensor):
            raise TypeError(f"forward_features gives {type(seen).__name__}, not one map or tokens")
        return seen


class PretrainedNetwork(Network):
    """A backbone of timm's, the mean of what it sees, and one linear layer."""

    shown_depth = BLOCKS_DEPTH

    def __init__(
        self,
        classes: int,
        model: nn.Module,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        preprocess: Preprocess,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.features = nn.Sequential(
            OrderedDict(normalise=Normalise(mean, deviation), backbone=Backbone(model), summary=Summary(model))
        )
        self.classify = nn.Linear(_width(self.features, preprocess), classes)

    @property
    def backbone(self) -> nn.Module:
        """Timm's model."""
        wrapped: nn.Module = self.features.get_submodule("backbone.model")
        return wrapped

    def places(self, pixels: Tensor) -> Tensor:
        """Returns what the backbone sees at each place, (N, D, h, w), whose mean is the embedding."""
        seen = self.features.get_submodule("backbone")(self.features.get_submodule("normalise")(pixels))
        summary: Summary = self.features.get_submodule("summary")  # type: ignore[assignment]
        return summary.place(seen)

    def lr_scales(self, layer_decay: float) -> dict[str, float]:
        """Returns a factor of the learning rate by parameter, lower by `layer_decay` with each block further in.

        What timm's `group_matcher` calls a layer counts as a block.
        """
        from timm.models import group_parameters

        if not hasattr(self.backbone, "group_matcher"):
            return {}
        matcher = self.backbone.group_matcher(coarse=False)  # type: ignore[operator]
        groups = group_parameters(self.backbone, matcher, reverse=True)  # parameter -> its block
        behind = max(groups.values()) + 1
        return {f"features.backbone.model.{name}": layer_decay ** (behind - block) for name, block in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """Returns what timm says of the backbone, such as its positions."""
        named: set[str] = getattr(self.backbone, "no_weight_decay", set)()
        return {f"features.backbone.model.{name}" for name in named}

    def take_weights(self, weights: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
        """Loads the backbone's weights.

        A classifier among them is left out. The backbone's last layers may be missing, each with all of its weights:
        the network then ends before them.

        Args:
            weights: As timm names them, or as its converters for older checkpoints take them.
            name: Of the file, for errors.

        Returns:
            The last layers that were missing.

        Raises:
            WeightsError: They are another architecture's.
        """
        model = self.backbone
        heads = _heads(model)
        own = model.state_dict().keys()
        converted = {key: value for key, value in _convert(weights, model).items() if key in own or not _in(key, heads)}
        try:
            missing, unexpected = model.load_state_dict(converted, strict=False)
        except RuntimeError as error:  # shapes
            raise _other(name, model, str(error).splitlines()[-1].strip()) from error
        if unexpected:
            raise _other(name, model, f"{unexpected[0]} is unexpected")
        lost = dict.fromkeys(key.split(".")[0] for key in missing)  # layers, in order
        layers = [layer for layer, child in model.named_children() if any(True for _ in child.parameters())]
        whole = sum(_count(model.get_submodule(layer).state_dict()) for layer in lost if layer in layers)
        if whole != _count(missing) or layers[len(layers) - len(lost) :] != list(lost) or len(lost) == len(layers):
            raise _other(name, model, f"{missing[0]} is missing")
        if lost:
            for layer in lost:
                setattr(model, layer, nn.Identity())
            width = _width(self.features, self.preprocess)
            self.classify = nn.Linear(width, self.classify.out_features)
        return tuple(lost)


def find_backbone(name: str, side: int | None = None) -> ArchitectureSpec:
    """Finds one of timm's models that have pretrained weights.

    Args:
        name: As timm names it, with or without the tag of the weights.
        side: Of the pictures, pixels; without, those it was trained with.

    Returns:
        Its entry; `create` makes it with random weights.

    Raises:
        UnknownNameError: timm has no such model with pretrained weights; the nearest are named.
    """
    import timm

    try:
        config: Any = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the model is there, such weights are not
        config = None
    if config is None:
        raise UnknownNameError("backbone of timm's", name, _near(name))
    usual = int(config.input_size[-1])
    if config.fixed_input_size and usual != config.input_size[-2]:
        raise UsageError(
            f"{name} takes pictures that are not square, which are not for it here. Take another backbone."
        )
    scaling = config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic"
    preprocess = Preprocess(side or usual, side or usual, "stretch", scaling)
    resized: dict[str, Any] = {"img_size": side} if config.fixed_input_size and side else {}

    def create(classes: int) -> Network:
        try:
            return PretrainedNetwork(classes, _create_model(name, resized), config.mean, config.std, preprocess)
        except TypeError as error:
            raise UsageError(f"{name} can't be stood on: {error}. Take another backbone.") from error
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"{name} can't take pictures of {preprocess.height} pixels a side. Give another image_size, such as "
                f"{usual}."
            ) from error

    return ArchitectureSpec(
        name=name,
        summary=f"timm's {config.architecture}, weights {config.tag or 'without a tag'}",
        source="timm" + (f", huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else ""),
        license=config.license or "not stated: ask its authors",
        preprocess=preprocess,
        create=create,
        flexible=False,
        repository=config.hf_hub_id or "",
    )


def _near(name: str) -> list[str]:
    """Of over a thousand models, the nearest one's weights."""
    import timm

    tagged: dict[str, list[str]] = {}
    for each in timm.list_models(pretrained=True):
        tagged.setdefault(each.split(".")[0], []).append(each)
    return tagged[difflib.get_close_matches(name.split(".")[0], tagged, n=1, cutoff=0.0)[0]]


def _create_model(name: str, resized: dict[str, Any]) -> nn.Module:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that timm has renamed
        try:  # transformers whose positions are scaled to the pictures, so that fine-tuning may begin with small ones
            return timm.create_model(name, num_classes=0, dynamic_img_size=True, **resized)
        except TypeError:
            return timm.create_model(name, num_classes=0, **resized)


@torch.no_grad()
def _width(features: nn.Module, preprocess: Preprocess) -> int:
    features.eval()
    return int(features(torch.zeros(1, 3, preprocess.height, preprocess.width)).shape[1])


def _convert(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Puts a checkpoint into the form of this model, such as its number of places, by timm's own converter."""
    converter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    plain = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    try:
        converted: dict[str, Tensor] = converter(plain, model) if converter else plain
    except (KeyError, RuntimeError, AttributeError, IndexError, ValueError):
        return plain  # not what the converter is for: comparing with the model will tell
    return converted


def _heads(model: nn.Module) -> tuple[str, ...]:
    """The names of timm's layers that tell its own classes apart."""
    config: Any = model.pretrained_cfg
    named = config.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def _in(key: str, layers: tuple[str, ...]) -> bool:
    return any(key.startswith(f"{layer}.") for layer in layers)


def _count(keys: Iterable[str]) -> int:
    """How many weights and statistics; older checkpoints lack batch norm's count of batches."""
    return sum(not key.endswith("num_batches_tracked") for key in keys)


def _other(name: str, model: nn.Module, reason: str) -> WeightsError:
    config: Any = model.pretrained_cfg
    return WeightsError(
        f"{name} holds weights of another architecture than {config.get('architecture')}: {reason}. "
        "Give the file that belongs to --network, or name the backbone that belongs to the file."
    )
