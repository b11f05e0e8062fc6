"""The graph for other libraries: it resizes as Belvedere does, and its logits are calibrated."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from belvedere.errors import UsageError
from belvedere.images.resize import INTERPOLATIONS, RESIZE_RULES, resize_image
from belvedere.inference.model import load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.model_graph import INPUT
from belvedere.inference.model_paths import BUNDLED
from belvedere.inference.onnx_transforms import load_graph, set_temperature
from belvedere.inference.pixel_values import to_pixel_values
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.types.model import Preprocess
from conftest import CARD, model_bytes

SIZES = [(8, 12), (9, 13), (40, 31), (31, 40), (5, 3), (9, 120), (1, 1)]


def draw(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def to_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("rule", RESIZE_RULES)
def test_images_of_any_size_are_resized_as_by_pillow(rule: str, interpolation: str) -> None:
    preprocess = Preprocess(8, 12, rule, interpolation)
    graph = load_graph(model_bytes(card_to_metadata(replace(CARD, preprocess=preprocess)), side=8))
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 12
    made = to_pixel_values(graph, preprocess)
    made.graph.output.append(helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ("N", 3, 8, 12)))
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for size in SIZES:
        image = draw(*size)
        [resized] = session.run([INPUT], {"pixel_values": to_input(image)})
        difference = np.abs(resized[0].transpose(1, 2, 0) - resize_image(image, preprocess))
        assert difference.max() <= 1, size  # a level: Pillow's coefficients are rounded, so that halves go either way
        assert difference.mean() < 0.1, size


def test_probabilities_of_the_bundled_model() -> None:
    """Both views, and the temperature, are in the graph; its weights stay in float16."""
    model = load_model(BUNDLED)
    content = to_pixel_values(load_graph(BUNDLED.read_bytes()), model.card.preprocess).SerializeToString()
    onnx.checker.check_model(content)
    assert len(content) < 1.1 * BUNDLED.stat().st_size
    session = onnxruntime.InferenceSession(content)
    assert [(each.name, each.shape[1]) for each in session.get_inputs()] == [("pixel_values", 3)]
    assert [each.name for each in session.get_outputs()] == ["logits"]
    images = [np.kron(draw(5, 6), np.ones((scale, scale, 1), np.uint8)) for scale in (9, 24, 60)]
    for image in images:
        [logits] = session.run(["logits"], {"pixel_values": to_input(image)})
        expected = model.forward(resize_image(image, model.card.preprocess)[None]).probabilities
        np.testing.assert_allclose(softmax(logits), expected, atol=2e-3)


def test_a_batch_has_a_row_for_each_image() -> None:
    graph = to_pixel_values(load_graph(model_bytes({})), CARD.preprocess)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    batch = np.concatenate([to_input(draw(20, 30)), to_input(draw(20, 30)[::-1])])
    [logits] = session.run(["logits"], {"pixel_values": batch})
    singles = [session.run(["logits"], {"pixel_values": each[None]})[0] for each in batch]
    np.testing.assert_allclose(logits, np.concatenate(singles), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_logits_include_the_temperature(temperature: float) -> None:
    content = set_temperature(model_bytes(card_to_metadata(CARD)), temperature)
    session = onnxruntime.InferenceSession(to_pixel_values(load_graph(content), CARD.preprocess).SerializeToString())
    image = draw(8, 8)
    [logits] = session.run(["logits"], {"pixel_values": to_input(image)})
    np.testing.assert_allclose(logits[0], image.mean((0, 1))[::-1] / 50 / temperature, rtol=1e-5)


def test_a_graph_without_a_softmax_is_refused() -> None:
    graph = load_graph(model_bytes({}))
    for node in graph.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Sigmoid"
            del node.attribute[:]
    with pytest.raises(UsageError):
        to_pixel_values(graph, CARD.preprocess)
