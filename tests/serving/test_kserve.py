"""The Open Inference Protocol (KServe V2): plain requests, hostile ones, and Triton's client."""

import base64
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import belvedere
from belvedere.runtime.http.errors import HTTPError
from belvedere.serving.kserve import inputs, schema
from belvedere.serving.limits import Limits
from conftest import CLASS_NAMES, make_pixels
from serve_process import Reply, Server, failing_model, png, serve

INFER = "/v2/models/default/infer"
HEADER = "Inference-Header-Content-Length"
LIMITS = ("--max-files", 4, "--max-megapixels", 0.01, "--max-body-mb", 0.5)
COLORS = ("red", "green", "blue")
PIXELS = np.stack([make_pixels(name, 0, 12) for name in COLORS])  # (3, 12, 12, 3)
TOKEN = "a-token-of-the-tests"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def server(model_file: Path) -> Iterator[Server]:
    with serve(model_file, *LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def bundled() -> Iterator[Server]:
    """The bundled model makes every kind of prediction."""
    with serve() as running:
        yield running


def encoded(*images: bytes, **changes: Any) -> dict[str, Any]:
    """Return the input of encoded images in JSON."""
    data = [base64.b64encode(each).decode() for each in images]
    return {"name": "encoded_images", "shape": [len(images)], "datatype": "BYTES", "data": data} | changes


def pixels(**changes: Any) -> dict[str, Any]:
    """Return an input of one image of 1 by 2 pixels in JSON, with some keys changed."""
    return {"name": "images", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [0, 1, 2, 3, 4, 255]} | changes


def elements(*images: bytes) -> bytes:
    """Return the binary data of encoded images."""
    return b"".join(struct.pack("<I", len(each)) + each for each in images)


def post(
    server: Server,
    document: object,
    binary: bytes | None = None,
    path: str = INFER,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request, with binary data behind the JSON if there are some."""
    content = json.dumps(document).encode()
    length = {} if binary is None else {HEADER: str(len(content))}
    return server.ask("POST", path, content + (binary or b""), length | dict(headers or {}))


def tensors(reply: Reply) -> dict[str, Any]:
    """Return the data of the tensors of a response by name: lists in JSON, bytes for binary ones."""
    assert reply.status == 200, reply.content
    length = int(reply.headers.get(HEADER.lower(), len(reply.content)))
    document, binary = json.loads(reply.content[:length]), reply.content[length:]
    schema.InferResponse.model_validate(document)
    found = {}
    for each in document["outputs"]:
        if "data" in each:
            found[each["name"]] = each["data"]
        else:
            size = each["parameters"]["binary_data_size"]
            found[each["name"]], binary = binary[:size], binary[size:]
    assert binary == b""
    return found


def test_health_and_metadata(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/default/ready"):
        reply = server.get(path)
        assert (reply.status, reply.content) == (200, b"")
        assert server.ask("HEAD", path).status == 200
    about = schema.ServerMetadata.model_validate_json(server.get("/v2").content)
    assert (about.name, about.version) == ("belvedere", belvedere.__version__)
    assert about.extensions == ["binary_tensor_data"]
    model = schema.ModelMetadata.model_validate_json(server.get("/v2/models/default").content)
    assert (model.name, model.versions, model.platform) == ("default", ["1"], "onnxruntime_onnx")
    shapes = {each.name: (each.datatype, each.shape) for each in (*model.inputs, *model.outputs)}
    assert shapes == {
        "encoded_images": ("BYTES", [-1]),
        "images": ("UINT8", [-1, -1, -1, 3]),
        "predicted_label": ("BYTES", [-1]),
        "answer": ("BYTES", [-1]),
        "confidence": ("FP32", [-1]),
        "probabilities": ("FP32", [-1, 3]),
        "class_names": ("BYTES", [3]),
    }


def test_every_form_of_input_has_the_predictions_of_the_library(server: Server, model_file: Path) -> None:
    """To the last bit."""
    files = [png(name, 1) for name in COLORS]
    model = belvedere.load_model(model_file)
    of_files = [each.probability_values for each in model.predict(files)]
    of_pixels = [each.probability_values for each in model.predict(PIXELS)]
    binary = elements(*files)
    in_binary = encoded(*files) | {"parameters": {"binary_data_size": len(binary)}}
    del in_binary["data"]
    flat: dict[str, Any] = {"name": "images", "shape": list(PIXELS.shape), "datatype": "UINT8"}
    for document, data, expected in (
        (encoded(*files), None, of_files),
        (in_binary, binary, of_files),
        (flat | {"data": PIXELS.ravel().tolist()}, None, of_pixels),
        (flat | {"data": PIXELS.tolist()}, None, of_pixels),
        (flat | {"parameters": {"binary_data_size": PIXELS.size}}, PIXELS.tobytes(), of_pixels),
    ):
        found = tensors(post(server, {"inputs": [document]}, data))
        assert found["probabilities"] == [value for row in expected for value in row]
        assert found["predicted_label"] == list(COLORS)
        assert found["class_names"] == list(CLASS_NAMES)


def test_outputs_are_chosen_and_may_be_binary(server: Server, model_file: Path) -> None:
    [expected] = belvedere.load_model(model_file).predict([png("red")])
    request: dict[str, Any] = {"inputs": [encoded(png("red"))]}
    label, probabilities = elements(b"red"), np.array(expected.probability_values, "<f4").tobytes()
    chosen = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "answer"}]
    reply = post(server, request | {"outputs": chosen, "id": "a\n\ud800"})
    assert list(tensors(reply).items()) == [("probabilities", probabilities), ("answer", ["red"])]
    assert reply.headers["content-type"] == "application/octet-stream"
    assert json.loads(reply.content[: int(reply.headers[HEADER.lower()])])["id"] == "a\n\ud800"
    all_binary = request | {"parameters": {"binary_data_output": True, "priority": 1}, "outputs": []}
    found = tensors(post(server, all_binary))
    assert found["predicted_label"] == found["answer"] == label
    assert found["class_names"] == elements(*(name.encode() for name in CLASS_NAMES))
    one_in_json = [{"name": "answer", "parameters": {"binary_data": False}}, {"name": "predicted_label"}]
    found = tensors(post(server, all_binary | {"outputs": one_in_json}))
    assert found == {"answer": ["red"], "predicted_label": label}


def test_versions(server: Server) -> None:
    request = {"inputs": [encoded(png("blue"))]}
    reply = post(server, request, path="/v2/models/default/versions/1/infer")
    assert reply.json["model_version"] == "1"
    assert tensors(reply)["answer"] == ["blue"]
    for path in ("", "/ready"):
        assert server.get(f"/v2/models/default/versions/1{path}").status == 200
        assert error(server.get(f"/v2/models/default/versions/2{path}"), 404)
        assert error(server.get(f"/v2/models/other{path}"), 404)
    assert error(post(server, request, path="/v2/models/default/versions/2/infer"), 404)
    assert error(post(server, request, path="/v2/models/other/infer"), 404)


def test_all_outputs_are_those_of_the_library(bundled: Server) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, 40, 50, 3), np.uint8)
    gray = np.full((1, 40, 50, 3), 128, np.uint8)
    images = np.concatenate([noise, gray])
    predictions = belvedere.load_model().predict(images)
    names = predictions[0].class_names
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": images.ravel().tolist()}
    reply = post(bundled, {"inputs": [tensor]})
    metadata = bundled.get("/v2/models/default").json["outputs"]
    assert [(each["name"], each["datatype"]) for each in metadata] == [
        (each["name"], each["datatype"]) for each in reply.json["outputs"]
    ]
    for stated, sent in zip(metadata, reply.json["outputs"], strict=True):
        assert sent["shape"] == [3 if size == -1 else size for size in stated["shape"]]
        assert len(sent["data"]) == np.prod(sent["shape"])
    assert tensors(reply) == {
        "predicted_label": [each.predicted_label for each in predictions],
        "answer": [each.answer for each in predictions],
        "confidence": pytest.approx([each.confidence for each in predictions], abs=1e-5),
        "probabilities": pytest.approx([value for each in predictions for value in each.probability_values], abs=1e-5),
        "class_names": list(names),
        "prediction_set": [name in each.prediction_set for each in predictions for name in names],
        "none_of_these": [each.none_of_these for each in predictions],
        "none_of_these_score": pytest.approx([each.none_of_these_score for each in predictions], abs=1e-5),
        "tags": [name in {tag.name for tag in each.tags} for each in predictions for name in names],
        "tag_probabilities": pytest.approx(
            [value for each in predictions for value in each.tag_probability_values], abs=1e-5
        ),
    }


def error(reply: Reply, status: int = 400) -> str:
    """Return the message of an error response: one line in the form of the protocol."""
    assert reply.status == status, reply.content
    document = reply.json
    schema.ErrorMessage.model_validate(document)
    message = str(document["error"])
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 500
    return message


HUGE = 10**30
RED = png("red")
SIZE = {"binary_data_size": len(elements(RED))}
BINARY = {"name": "encoded_images", "shape": [1], "datatype": "BYTES", "parameters": SIZE}
BINARY_PIXELS = {"name": "images", "shape": [1, 1, 2, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 6}}


@pytest.mark.parametrize(
    ("tensor", "binary", "words"),
    [
        (encoded(RED, shape=[2]), None, "1 elements"),
        (encoded(RED, RED, shape=[1]), None, "2 elements"),
        (encoded(RED, shape=[HUGE]), None, "4 images"),
        (encoded(RED, shape=[5]), None, "4 images"),
        (encoded(RED, shape=[-1]), None, "shape [-1]"),
        (encoded(shape=[0]), None, "shape [0]"),
        (encoded(RED, shape=[1, 1]), None, "shape [1, 1]"),
        (encoded(RED, shape=[]), None, "shape []"),
        (encoded(RED, shape=[1.0]), None, "inputs.0.shape.0"),
        (encoded(RED, shape=[True]), None, "inputs.0.shape.0"),
        (encoded(RED, shape=[1] * 1000), None, "inputs.0.shape"),
        (encoded(RED, shape="1"), None, "inputs.0.shape"),
        (encoded(RED, datatype="UINT8"), None, "datatype 'UINT8'"),
        (encoded(RED, datatype="\n" * 5000), None, "datatype"),
        (encoded(RED, name="pictures\n"), None, "no input 'pictures\\n'"),
        (encoded(RED, data=["no base64!"]), None, "Element 0"),
        (encoded(RED, data=["é"]), None, "Element 0"),
        (encoded(RED, data=[7]), None, "Element 0"),
        (encoded(RED, data=[["AA=="]]), None, "Element 0"),
        (encoded(RED, data=None), None, "no data"),
        (encoded(RED, data="AA=="), None, "inputs.0.data"),
        (encoded(RED, parameters={"shared_memory_region": "a"}), None, "shared_memory_region"),
        (encoded(RED, parameters=[]), None, "inputs.0.parameters"),
        (encoded(b"no image"), None, "Image 0 "),
        (encoded(RED, b""), None, "Image 1 cannot be read"),
        (encoded(png("red", side=120)), None, "over the limit of 10,000"),
        (encoded(RED, parameters=SIZE), elements(RED), "both data"),
        (pixels(data=[0] * 5), None, "5 elements"),
        (pixels(data=[0] * 7), None, "7 elements"),
        (pixels(data=[]), None, "0 elements"),
        (pixels(data=[0, 0, 0, 0, 0, 256]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, -1]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, HUGE]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, 0.5]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, True]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, "1"]), None, "0 to 255"),
        (pixels(data=[0, 0, 0, 0, 0, [1]]), None, "0 to 255"),
        (pixels(data=[[[[0, 1, 2], [3, 4]]]]), None, "nested"),
        (pixels(data=[[[0, 1, 2], [3, 4, 5]]]), None, "nested"),
        (pixels(data=[[[[0, 1, 2], 5]]]), None, "nested"),
        (pixels(shape=[1, 2, 3]), None, "shape [1, 2, 3]"),
        (pixels(shape=[1, 1, 6, 1]), None, "shape [1, 1, 6, 1]"),
        (pixels(shape=[1, 1, 0, 3]), None, "shape [1, 1, 0, 3]"),
        (pixels(shape=[1, -1, -2, 3]), None, "shape [1, -1, -2, 3]"),
        (pixels(shape=[1, HUGE, HUGE, 3]), None, "10,000 pixels"),
        (pixels(shape=[5, 1, 2, 3], data=[0] * 30), None, "4 images"),
        (pixels(datatype="FP32"), None, "datatype 'FP32'"),
        (BINARY_PIXELS, bytes(5), "5 bytes follow"),
        (BINARY_PIXELS | {"shape": [1, 2, 2, 3]}, bytes(6), "6 bytes"),
        (BINARY, elements(RED) + b"a", "binary_data_size"),
        (BINARY, b"", "binary_data_size"),
        (BINARY | {"parameters": {"binary_data_size": HUGE}}, elements(RED), "binary_data_size"),
        (BINARY | {"parameters": {"binary_data_size": -1}}, elements(RED), "binary_data_size"),
        (BINARY | {"parameters": {"binary_data_size": True}}, b"a", "binary_data_size"),
        (BINARY | {"parameters": {"binary_data_size": "7"}}, bytes(7), "binary_data_size"),
        (BINARY | {"parameters": {"binary_data_size": 0}}, b"", "0 elements"),
        (BINARY | {"parameters": {"binary_data_size": 3}}, bytes(3), "0 elements"),
        (BINARY | {"parameters": {"binary_data_size": 5}}, b"\xff\xff\xff\xffa", "4,294,967,295 bytes"),
        (BINARY | {"parameters": {"binary_data_size": 8}}, bytes(8), "4 bytes follow the last element"),
        (BINARY | {"parameters": {}}, elements(RED), "no binary_data_size"),
        (BINARY, None, "0 bytes follow"),
    ],
)
def test_hostile_tensors_are_rejected(server: Server, tensor: object, binary: bytes | None, words: str) -> None:
    assert words in error(post(server, {"inputs": [tensor]}, binary))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "inputs"),
        ([], "JSON"),
        (None, "JSON"),
        ({"inputs": []}, "0 inputs"),
        ({"inputs": [encoded(RED), pixels()]}, "2 inputs"),
        ({"inputs": [encoded(RED), encoded(RED)]}, "2 inputs"),
        ({"inputs": [1] * 10_000}, "inputs"),
        ({"inputs": [{}]}, "inputs.0.name"),
        ({"inputs": [encoded(RED)], "id": 7}, "id"),
        ({"inputs": [encoded(RED)], "parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "logits\n"}]}, "no output 'logits\\n'"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "answer"}] * 2}, "twice"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "answer"}] * 1000}, "outputs"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "none_of_these"}]}, "no output 'none_of_these'"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "answer", "parameters": {"classification": 2}}]}, "not supp"),
        ({"inputs": [encoded(RED)], "outputs": [{"name": "answer", "parameters": {"binary_data": 1}}]}, "binary_data"),
    ],
)
def test_hostile_requests_are_rejected(server: Server, document: object, words: str) -> None:
    assert words in error(post(server, document))


@pytest.mark.parametrize(
    "content",
    [b"", b"no JSON", b"\xff\xfe", b"[" * 400_000, b'{"inputs": NaN}', b'{"inputs": ' + b"9" * 400_000 + b"}"],
    ids=["empty", "text", "bytes", "deep", "nan", "long-number"],
)
def test_what_is_not_json_is_rejected(server: Server, content: bytes) -> None:
    error(server.ask("POST", INFER, content))


@pytest.mark.parametrize("length", ["-1", "0", "1", "100000", "9" * 30, "x", "1.5", "٣"])
def test_wrong_lengths_of_the_json_are_rejected(server: Server, length: str) -> None:
    error(post(server, {"inputs": [BINARY]}, elements(RED), headers={HEADER: length.encode().decode("latin-1")}))


@pytest.mark.parametrize(
    "content",
    [b"[" + b"[]," * 1000, b"[" + b"1," * 1000, b"{" + b'"a":1,' * 1000],
    ids=["lists", "numbers", "keys"],
)
def test_values_of_json_are_counted_before_it_is_read(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """They take up to 30 times as much memory as their text."""
    monkeypatch.setattr(inputs, "MAX_JSON_VALUES", 900)
    monkeypatch.setattr(inputs, "MAX_JSON_KEYS", 900)
    with pytest.raises(HTTPError, match="900 values") as caught:
        inputs.read_request(content, len(content), Limits())
    assert caught.value.status == 400


def test_every_error_has_the_form_of_the_protocol(server: Server, model_file: Path, tmp_path: Path) -> None:
    request = {"inputs": [encoded(RED)]}
    assert "body" in error(post(server, request, headers={"Content-Encoding": "gzip"}), 415)
    error(post(server, request, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    error(post(server, request, headers={"Host": "elsewhere.example"}), 421)
    error(server.ask("POST", INFER, bytes(600_000)), 413)
    error(server.get("/v2/nowhere"), 404)
    error(server.get(INFER), 405)
    with serve(model_file, environment={"BELVEDERE_TOKEN": TOKEN}) as guarded:
        for path in ("/v2", "/v2/models/default", "/v2/models/default/ready", "/v2/models/default/versions/1"):
            error(guarded.get(path), 401)
            assert guarded.get(path, Authorization=f"Bearer {TOKEN}").status == 200
        error(post(guarded, request), 401)
        assert post(guarded, request, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert guarded.get(path).status == 200
    (tmp_path / "model.onnx").write_bytes(failing_model())
    with serve(tmp_path) as failing:
        assert "model failed" in error(post(failing, request), 500)


def test_predictions_are_counted_as_those_of_other_routes(server: Server) -> None:
    before = server.metric("belvedere_images_total")
    tensors(post(server, {"inputs": [encoded(RED, RED)]}))
    assert server.metric("belvedere_images_total") == before + 2
    text = server.get("/metrics").content.decode()
    assert 'belvedere_requests_total{route="/v2/models/{name}/infer",status="200"}' in text


def test_the_api_is_described(server: Server) -> None:
    document = server.get("/openapi.json").json
    operation = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert {"200", "400", "401", "404"} <= set(operation["responses"])
    found = list(references(operation))
    assert any("RequestInput" in each for each in found)
    for each in found:
        place: Any = document
        for key in each.removeprefix("#/").split("/"):
            place = place[key.replace("%7B", "{").replace("%7D", "}").replace("~1", "/")]
        assert place["type"] == "object"


def references(value: object) -> Iterator[str]:
    """Yield the references of a JSON document."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from [each] if key == "$ref" else references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


class Client:
    """Triton's client, and the requests of the tests."""

    def __init__(self, server: Server) -> None:
        self.triton: Any = pytest.importorskip("tritonclient.http")
        self.client = self.triton.InferenceServerClient(f"{server.host}:{server.port}")

    def infer(
        self, name: str, datatype: str, values: NDArray[Any], outputs: Sequence[str] = (), binary: bool = True
    ) -> Any:
        tensor = self.triton.InferInput(name, values.shape, datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        wanted = [self.triton.InferRequestedOutput(each, binary_data=binary) for each in outputs]
        return self.client.infer("default", [tensor], outputs=wanted or None, request_id="7")

    def infer_files(self, files: Sequence[bytes], outputs: Sequence[str] = ()) -> Any:
        return self.infer("encoded_images", "BYTES", np.array(files, np.object_), outputs)


def test_triton_client(bundled: Server) -> None:
    client = Client(bundled)
    assert client.client.is_server_live()
    assert client.client.is_server_ready()
    assert client.client.is_model_ready("default")
    assert client.client.is_model_ready("default", "1")
    assert not client.client.is_model_ready("other")
    assert client.client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.client.get_model_metadata("default", "1")
    outputs = [each["name"] for each in metadata["outputs"]]
    model = belvedere.load_model()
    files = [png(name, side=40) for name in COLORS]
    expected = model.predict(files)
    for wanted in ((), outputs):
        result = client.infer_files(files, wanted)
        assert result.get_response()["id"] == "7"
        for each in metadata["outputs"]:
            array = result.as_numpy(each["name"])
            assert array.shape == tuple(3 if size == -1 else size for size in each["shape"])
        values = [list(each.probability_values) for each in expected]
        assert result.as_numpy("probabilities") == pytest.approx(np.array(values), abs=1e-5)  # of other batches
        assert result.as_numpy("answer").tolist() == [str(each.answer).encode() for each in expected]
        assert result.as_numpy("none_of_these").tolist() == [each.none_of_these for each in expected]
    for binary in (True, False):
        result = client.infer("images", "UINT8", PIXELS, ["probabilities", "class_names", "tags"], binary)
        rows = [list(each.probability_values) for each in model.predict(PIXELS)]
        assert result.as_numpy("probabilities") == pytest.approx(np.array(rows), abs=1e-5)
        assert result.as_numpy("tags").dtype == np.bool_
    utils = pytest.importorskip("tritonclient.utils")
    with pytest.raises(utils.InferenceServerException, match="Image 0 ") as caught:
        client.infer_files([b"no image"])
    assert caught.value.status() == "400"


@pytest.mark.skipif("BELVEDERE_INTEL_SCENES" not in os.environ, reason="needs the Intel scenes")
def test_triton_client_on_real_images(bundled: Server) -> None:
    """50 images per class have the probabilities of `predict`, to the last bit."""
    folder = Path(os.environ["BELVEDERE_INTEL_SCENES"]) / "test"
    classes = sorted(each for each in folder.iterdir() if each.is_dir())
    files = [file for each in classes for file in sorted(each.iterdir())[:50]]
    assert len(files) == 300
    expected = belvedere.load_model().predict(files)
    client = Client(bundled)
    for start in range(0, 300, 30):
        contents = [file.read_bytes() for file in files[start : start + 30]]
        opened = [np.asarray(Image.open(BytesIO(each)).convert("RGB")) for each in contents]
        rows = [list(each.probability_values) for each in expected[start : start + 30]]
        assert client.infer_files(contents).as_numpy("probabilities") == pytest.approx(np.array(rows), abs=1e-5)
        found = client.infer("images", "UINT8", np.stack(opened), ["probabilities"])
        assert found.as_numpy("probabilities") == pytest.approx(np.array(rows), abs=1e-5)
