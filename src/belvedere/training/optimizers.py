"""Optimizers: Adam with an L2 penalty, AdamW with layer-wise decay, and Muon with AdamW."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from belvedere.errors import UsageError, find_named
from belvedere.runtime.registry import plugin_errors
from belvedere.training.networks.registry import Network
from belvedere.training.recipes import OPTIMIZERS, Recipe

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
NUMBER = "number"  # prefix of the names of numbers in the state of an optimizer, in a checkpoint
Optimizers = torch.optim.Optimizer | list[torch.optim.Optimizer]
OptimizerFactory = Callable[[Network, Recipe], Optimizers]


def register_optimizer(name: str, *, overwrite: bool = False) -> Callable[[OptimizerFactory], OptimizerFactory]:
    """Return a decorator that registers an optimizer for the recipe key `optimizer`.

    The function gets the network and the recipe, whose keys are attributes such as `recipe.learning_rate`, and returns
    a `torch.optim.Optimizer` or a list of them, which take a step without a closure. The learning rates of their
    parameter groups follow the recipe's schedule. A resumed training continues with the state that the optimizer keeps
    of each parameter, as tensors and numbers.

    Args:
        name: Value of the recipe key.
        overwrite: Whether to replace an optimizer of that name.

    Raises:
        UsageError: The name is taken.
    """

    def add(create: OptimizerFactory) -> OptimizerFactory:
        OPTIMIZERS.add(name, create, overwrite=overwrite)
        return create

    return add


class Muon(torch.optim.Optimizer):
    """SGD with momentum and orthogonalized updates (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    A convolution's kernels are one matrix with a row for each output channel; torch.optim.Muon accepts 2-D parameters
    only. Kernels of one shape are updated as a batch.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(list(kernels), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - unused
        """Take a step."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for kernels in group["params"]:
                if kernels.grad is not None:
                    by_shape[kernels.shape].append(kernels)
            for batch in by_shape.values():
                self._step_batch(batch, group)

    def _step_batch(self, batch: list[nn.Parameter], group: dict[str, Any]) -> None:
        updates = []
        for kernels in batch:
            state = self.state[kernels]
            if not state:
                state["momentum"] = torch.zeros_like(kernels)
            state["momentum"].mul_(group["momentum"]).add_(kernels.grad)
            updates.append((kernels.grad + group["momentum"] * state["momentum"]).flatten(1))
        directions = orthogonalize(torch.stack(updates))
        _, rows, columns = directions.shape
        size = group["lr"] * max(1.0, rows / columns) ** 0.5
        for kernels, direction in zip(batch, directions, strict=True):
            kernels.mul_(1 - group["lr"] * group["weight_decay"])
            kernels.add_(direction.view(kernels.shape), alpha=-size)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values of (n, rows, columns) to about 0.7 to 1.2 by five Newton-Schulz steps.

    Each step multiplies by a polynomial of the matrix' square. The steps are computed on the squares, which are small,
    and the matrix is multiplied once: a third of the work.
    """
    if matrices.size(-2) > matrices.size(-1):
        wide: Tensor = orthogonalize(matrices.mT).mT
        return wide
    linear, cubic, quintic = NEWTON_SCHULZ
    scaled = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    square = scaled @ scaled.mT
    product = torch.eye(square.size(-1), device=square.device).expand_as(square)
    for _ in range(NEWTON_SCHULZ_STEPS):
        step = cubic * square + quintic * square @ square
        step.diagonal(dim1=-2, dim2=-1).add_(linear)
        product, square = step @ product, step @ square @ step
    out: Tensor = product @ scaled
    return out


class OptimizerGroup:
    """The one or two optimizers of a recipe, with a common schedule."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.optimizers = _create(network, recipe)
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]

    def step(self, factor: float) -> None:
        """Take a step with `factor` times the recipe's learning rates, and clear the gradients."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, for `restore`."""
        return {
            f"{number}.{index}.{name}" if isinstance(value, Tensor) else f"{number}.{index}.{NUMBER}.{name}": (
                value if isinstance(value, Tensor) else torch.tensor(value)
            )
            for number, optimizer in enumerate(self.optimizers)
            for index, state in optimizer.state_dict()["state"].items()
            for name, value in state.items()
            if isinstance(value, Tensor | int | float)
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load the result of `tensors`, each in the memory layout of its parameter."""
        for number, optimizer in enumerate(self.optimizers):
            weights = [each for group in optimizer.param_groups for each in group["params"]]
            for name, value in tensors.items():
                where, index, key = name.split(".", maxsplit=2)
                if int(where) != number:
                    continue
                parameter = weights[int(index)]
                if key.startswith(f"{NUMBER}."):
                    optimizer.state[parameter][key.removeprefix(f"{NUMBER}.")] = value.item()
                    continue
                like = parameter if value.shape == parameter.shape else value
                state = torch.empty_like(like, dtype=value.dtype).copy_(value)
                optimizer.state[parameter][key] = state.to(parameter.device) if value.ndim else state


def _create(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Create the optimizers of a recipe.

    Raises:
        UsageError: A registered function returned something else.
        PluginError: A registered function raised an exception.
    """
    with plugin_errors(f"The optimizer {recipe.optimizer!r}"):
        created = OPTIMIZERS.find(recipe.optimizer)(network, recipe)
    optimizers = created if isinstance(created, list) else [created]
    wrong = [each for each in optimizers if not isinstance(each, torch.optim.Optimizer)]
    if wrong or not optimizers:
        received = type(wrong[0]).__name__ if wrong else "an empty list"
        raise UsageError(
            f"The function of the optimizer {recipe.optimizer!r} must return one or several torch.optim.Optimizer. "
            f"Received: {received}."
        )
    return optimizers


@register_optimizer("adam")
def _adam(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    # The gradient of l2 * sum(w^2) is 2 * l2 * w, and Adam's weight_decay adds weight_decay * w.
    parameters = dict(network.named_parameters())
    for name in recipe.l2_parameters:
        find_named("parameter of the network", name, parameters)
    decayed = [weights for name, weights in parameters.items() if name in recipe.l2_parameters]
    others = [weights for name, weights in parameters.items() if name not in recipe.l2_parameters]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": decayed, "weight_decay": 2 * recipe.l2_penalty}]
    return [torch.optim.Adam(groups, lr=recipe.learning_rate, betas=(0.9, recipe.adam_beta2), eps=recipe.adam_eps)]


@register_optimizer("adamw")
def _adamw(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW with layer-wise learning rate decay (Clark et al. 2020, ELECTRA)."""
    scales, without_decay = network.lr_scales(recipe.layer_decay), network.no_weight_decay()
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weights in network.named_parameters():
        decayed = weights.ndim >= 2 and name not in without_decay
        groups.setdefault((scales.get(name, 1.0), decayed), []).append(weights)
    options = [
        {"params": members, "lr": recipe.learning_rate * factor, "weight_decay": recipe.weight_decay * decayed}
        for (factor, decayed), members in groups.items()
    ]
    return [torch.optim.AdamW(options, betas=(0.9, recipe.adam_beta2), eps=recipe.adam_eps)]


@register_optimizer("muon")
def _muon(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the kernels of the blocks; AdamW for the stem, the head and all vectors."""
    first = next((name for name, weights in network.named_parameters() if weights.ndim == 4), "")
    named = dict(network.named_parameters())
    kernels = [weights for name, weights in named.items() if weights.ndim == 4 and name != first]
    matrices = [
        weights for name, weights in named.items() if weights.ndim >= 2 and (weights.ndim != 4 or name == first)
    ]
    vectors = [weights for weights in named.values() if weights.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, recipe.adam_beta2), eps=recipe.adam_eps)
    if not kernels:
        return [adamw]
    return [Muon(kernels, recipe.muon_learning_rate, recipe.muon_momentum, recipe.weight_decay), adamw]
