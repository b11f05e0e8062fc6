"""The README.md of a model on the Hugging Face Hub: front matter for its search, and a description for people."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from belvedere.runtime.terminal import count
from belvedere.types.model import ModelCard

TAGS = ("belvedere", "image-classification", "onnx", "transformers.js")
METRICS = {  # of metrics.json -> type on the Hub, name for people
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "log_loss": ("log_loss", "Log loss"),
    "ece": ("ece", "Expected calibration error"),
}
SPLITS = {
    "test": "images of the test split, on which the model was not trained",
    "val": "images of the validation split, on which the epoch was chosen and the calibration fitted",
    "all": "labeled images",
    "out_of_fold": "images by cross-validation: by models of the same recipe that were not trained on the image, not "
    "by this one",
}
USE = """\
Python, with Belvedere and its extra `hub`:

```python
import belvedere
model = belvedere.load_model("hf://USER/NAME")
print(model.predict("photo.jpg")[0].answer)
```

JavaScript, with transformers.js; one image per call:

```javascript
import { pipeline } from "@huggingface/transformers";
const classify = await pipeline("image-classification", "USER/NAME");
console.log(await classify("photo.jpg"));
```

ONNX Runtime, with `onnx/model.onnx`; `config.json` lists the classes:

```python
pixels = numpy.asarray(PIL.Image.open("photo.jpg").convert("RGB"), numpy.float32).transpose(2, 0, 1)[None] / 255
session = onnxruntime.InferenceSession("onnx/model.onnx")
logits = session.run(["logits"], {"pixel_values": pixels})[0]  # their softmax: the probabilities of the classes
```
"""


def card_text(
    title: str,
    card: ModelCard,
    license_id: str | None,
    metrics: Mapping[str, Any] | None,
    figures: Mapping[str, str],
) -> str:
    """Return the text of README.md.

    Args:
        title: Name of the model.
        card: Its metadata.
        license_id: Identifier of its license, as of the Hub; None: unknown, and left out.
        metrics: Content of metrics.json of the model; None if there is none.
        figures: Files in the same folder, with their titles.
    """
    names = ", ".join(map(escape, card.class_names))
    size = card.preprocess
    parts = [
        f"---\n{_front_matter(title, card, license_id, metrics)}\n---",
        f"# {escape(title)}",
        f"An image classifier for {count(len(card.class_names), 'class', 'classes')}: {names}.",
        "## Metrics",
        *(["None are known for this file."] if metrics is None else _metrics(metrics)),
        *(f"![{title}]({file})" for file, title in figures.items()),
        "## Images of none of the classes",
        _none_of_these(card),
        "## Limits",
        "The metrics are valid for images like those that the model was trained on. On others, its probabilities may "
        f"be too high. It receives {size.height} x {size.width} pixels of an image: what is too small to be seen there "
        "is not recognized. Labels and errors of the training data are the model's, too.",
        "`config.json` names a ResNet, since transformers.js knows classifiers by their architecture only; the network "
        f"is '{escape(card.provenance.network)}'. Load `onnx/model.onnx`, not weights, in other libraries.",
        "## Use",
        USE.strip(),
        "## Training",
        _training(card),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))


def _front_matter(title: str, card: ModelCard, license_id: str | None, metrics: Mapping[str, Any] | None) -> str:
    base = card.provenance.pretrained_from.get("weights", "")
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=f"{title}, {metrics['num_images']} images",
            dataset_split=metrics["split"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(metrics[key], 4),
        )
        for key, (kind, name) in METRICS.items()
        if metrics is not None and metrics[key] is not None
    ]
    data = ModelCardData(
        base_model=base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        license=license_id,
        library_name="belvedere",
        pipeline_tag="image-classification",
        tags=list(TAGS),
        model_name=title,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _metrics(metrics: Mapping[str, Any]) -> Iterable[str]:
    measured_on = SPLITS.get(metrics["split"], "images")
    yield f"Measured on {metrics['num_images']:,} {measured_on}."
    rows = [(name, f"{metrics[key]:.4f}") for key, (_, name) in METRICS.items() if metrics[key] is not None]
    yield _table(("metric", "value"), rows)
    per_class = [
        (escape(each["name"]), *(_number(each[key]) for key in ("precision", "recall", "f1")), f"{each['support']:,}")
        for each in metrics["per_class"]
    ]
    yield _table(("class", "precision", "recall", "F1", "images"), per_class)
    confusions = [
        f"{escape(each['label'])} predicted as {escape(each['predicted_label'])} {each['count']}"
        for each in metrics["confusions"][:4]
    ]
    if confusions:
        yield f"Most frequent mistakes: {', '.join(confusions)}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _none_of_these(card: ModelCard) -> str:
    fitted = card.uncertainty
    if not fitted.ood_score_quantiles:
        return "The model predicts one of its classes for every image, whatever it shows."
    return (
        f'Belvedere predicts "none of these" for images unlike the training images. The threshold accepts '
        f"{fitted.ood_acceptance:.0%} of {fitted.num_calibration_images:,} images that were held out; some images of "
        "other things are accepted, too. Other libraries read the probabilities only, and predict one of the classes "
        "for every image."
    )


def _training(card: ModelCard) -> str:
    made = card.provenance
    images = ", ".join(f"{number:,} {escape(split)}" for split, number in made.num_images.items())
    lines = [
        f"recipe {made.recipe!r}, network {made.network!r}, seed {made.seed}, {count(made.epochs, 'epoch')}"
        f"{' (interrupted)' if made.interrupted else ''}",
        f"{made.created}, on {made.device}, {made.precision}",
        *(f"{key} {value}" for key, value in made.pretrained_from.items()),
        f"temperature {card.uncertainty.temperature:.3f}, which the logits of `onnx/model.onnx` include"
        if card.uncertainty.num_calibration_images
        else "not calibrated",
    ]
    return "\n".join([f"- images: {images}", *(f"- {_but_code(line)}" for line in lines)])


def _but_code(line: str) -> str:
    """Escape a line, but for code in it that this module wrote."""
    return escape(line).replace("\\`onnx/model.onnx\\`", "`onnx/model.onnx`")
