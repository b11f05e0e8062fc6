"""Writes the API reference, docs/api.md, from the signatures, docstrings and field comments of the public names."""

import ast
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import TypeGuard

import belvedere

WIDTH = 120  # of a line of Markdown
SIGNATURE_WIDTH = 88
GROUPS = {
    "Data": ("fetch", "load_dataset", "Dataset", "read_image", "make_synthetic_dataset"),
    "Training": ("train", "Run", "recipe_to_toml", "list_models", "describe_architecture"),
    "Callbacks": ("Callback", "EarlyStopping", "TrainingContext", "EpochMetrics", "StopTraining"),
    "Prediction": ("load_model", "Model", "predict", "Predictions", "Prediction", "export", "push", "Push", "serve"),
    "Evaluation": (
        "evaluate",
        "Evaluation",
        "assess",
        "Assessment",
        "calibrate",
        "Calibration",
        "compare",
        "Comparison",
        "monitor",
        "DriftReport",
    ),
    "Label quality": ("label", "audit", "Audit", "Issue", "explore", "review", "read_corrections"),
    "Plug-ins": ("register_network", "register_recipe", "register_optimizer", "register_check", "register_writer"),
    "Progress and demo": ("Progress", "console_progress", "run_demo"),
}
INTRODUCTION = """\
# API reference

Everything is imported from `belvedere`. Names load on first use, so that `import belvedere` is fast; only training
imports torch. The version is `belvedere.__version__`. Paths may be strings or `pathlib.Path`. Messages and bars appear
on a terminal and in a notebook, unless `progress` is False ([logging](callbacks.md#logging-and-progress)). The pages of
the commands, listed in the [README](../README.md#documentation), explain the methods and the files.

Shapes: N images, H x W pixels, K classes, D embedding dimensions.
"""
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):\n((?:(?: .*)?\n)*)", re.MULTILINE)
ERROR_TABLE = "| error | is also | meaning | fields |\n|---|---|---|---|\n"
TITLES = {"Args": "Arguments", "Attributes": "Fields"}


def render_reference() -> str:
    """Return the page.

    Raises:
        ValueError: `GROUPS` does not list exactly the public names.
    """
    groups = GROUPS | {"Errors": tuple(name for name in belvedere.__all__ if name.endswith("Error"))}
    listed = {"__version__", *itertools.chain(*groups.values())}
    if listed != set(belvedere.__all__):
        raise ValueError(f"GROUPS and belvedere.__all__ differ: {sorted(listed ^ set(belvedere.__all__))}")
    contents = [(f"[{title}](#{_anchor(title)})", ", ".join(map(_link, names))) for title, names in GROUPS.items()]
    contents += [("[Records](#records)", "types of arguments, fields and results"), ("[Errors](#errors)", "")]
    blocks = [INTRODUCTION, _list(contents)]
    for title, names in GROUPS.items():
        blocks.append(f"## {title}\n")
        blocks += [_render(getattr(belvedere, name), f"belvedere.{name}") for name in names]
    blocks += ["## Records\n", "These types are not exported by `belvedere`.\n"]
    blocks += [_render(record, record.__name__) for record in _records()]
    blocks += ["## Errors\n", ERROR_TABLE + "".join(map(_error_row, groups["Errors"]))]
    return "\n".join(blocks)


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _error_row(name: str) -> str:
    error = getattr(belvedere, name)
    bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
    text = f"{inspect.getdoc(error)}\n"
    sections = dict(SECTION.findall(text))
    fields = ", ".join(
        f"`{field}`" for field in re.findall(r"^    (\w+):", sections.get("Attributes", ""), re.MULTILINE)
    )
    return f"| `{name}` | {bases} | {text.splitlines()[0]} | {fields} |\n"


def _records() -> list[type]:
    """Return the data classes that public names take, hold or return, by name."""
    public = {getattr(belvedere, name) for name in itertools.chain(*GROUPS.values())}
    pending, found = list(public), set[type]()
    while pending:
        thing = pending.pop()
        module = sys.modules[thing.__module__]
        names = {
            node.id for each in _annotations(_parse(thing)) for node in ast.walk(each) if isinstance(node, ast.Name)
        }
        for each in (getattr(module, name, None) for name in names):
            if each not in public | found and _is_record(each):
                found.add(each)
                pending.append(each)
    return sorted(found, key=lambda record: record.__name__)


def _is_record(thing: object) -> TypeGuard[type]:
    return inspect.isclass(thing) and is_dataclass(thing) and thing.__module__.startswith("belvedere.")


def _annotations(tree: ast.FunctionDef | ast.ClassDef) -> Iterator[ast.expr]:
    """Yield the annotations of fields, of results, and of arguments of functions."""
    if isinstance(tree, ast.FunctionDef):
        arguments = (argument.annotation for argument in (*tree.args.args, *tree.args.kwonlyargs))
        yield from filter(None, (tree.returns, *arguments))
        return
    yield from (field.annotation for field in _fields(tree))
    yield from (method.returns for method in _methods(tree) if method.returns)


def _parse(thing: object) -> ast.FunctionDef | ast.ClassDef:
    [tree] = ast.parse(_source(thing)).body
    assert isinstance(tree, ast.FunctionDef | ast.ClassDef)
    return tree


def _source(thing: object) -> str:
    return textwrap.dedent(inspect.getsource(thing))  # type: ignore[arg-type]


def _fields(tree: ast.ClassDef) -> list[ast.AnnAssign]:
    return [node for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target)[0] != "_"]


def _methods(tree: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]


def _render(thing: object, title: str) -> str:
    """Return heading, signature, docstring, fields, properties and methods of a function or class."""
    tree = _parse(thing)
    heading = f"### {tree.name}\n\n"
    constants = {name: repr(value) for name, value in vars(sys.modules[thing.__module__]).items() if type(value) is str}
    if isinstance(tree, ast.FunctionDef):
        return f"{heading}{_signature(tree, title, constants)}\n{_docstring(tree)}"
    blocks = [heading + _docstring(tree)]
    if is_dataclass(thing) and (fields := _fields(tree)):
        lines = _source(thing).splitlines()
        blocks.append("Fields:\n\n" + _list([_field(field, lines) for field in fields]))
    if properties := [method for method in _methods(tree) if _decorators(method) & {"property", "cached_property"}]:
        blocks.append("Properties:\n\n" + _list([_property(each) for each in properties]))
    for method in _methods(tree):
        if method not in properties:
            signature = _signature(method, f"{tree.name}.{method.name}", constants, is_method=True)
            blocks.append(f"#### {tree.name}.{method.name}\n\n{signature}\n{_docstring(method)}")
    return "\n".join(blocks)


def _decorators(method: ast.FunctionDef) -> set[str]:
    return {ast.unparse(each) for each in method.decorator_list}


def _field(field: ast.AnnAssign, lines: list[str]) -> tuple[str, str]:
    """Return a field with its default, and its comment or its description for pydantic."""
    line = lines[(field.end_lineno or field.lineno) - 1]
    kind, comment = field.annotation, line[field.end_col_offset or 0 :].partition("#")[2].strip()
    if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Annotated":
        assert isinstance(kind.slice, ast.Tuple)
        kind, *metadata = kind.slice.elts
        keywords = [keyword for call in metadata if isinstance(call, ast.Call) for keyword in call.keywords]
        comment = next((ast.literal_eval(each.value) for each in keywords if each.arg == "description"), comment)
    default = f" = {ast.unparse(field.value)}" if isinstance(field.value, ast.Constant) else ""
    return f"`{ast.unparse(field.target)}: {_quoted(ast.unparse(kind) + default)}`", comment


def _property(method: ast.FunctionDef) -> tuple[str, str]:
    meaning = (ast.get_docstring(method) or "").replace("Raises:\n", "Raises ").replace("Returns:\n", "")
    return f"`{method.name}: {ast.unparse(method.returns) if method.returns else 'object'}`", meaning


def _signature(tree: ast.FunctionDef, name: str, constants: dict[str, str], is_method: bool = False) -> str:
    """Return the call of a function as a block of code; defaults that are text constants by their value."""
    arguments = list(_arguments(tree.args, constants))[is_method:]
    result = f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    text = f"{name}({', '.join(arguments)}){result}"
    if len(text) > SIGNATURE_WIDTH:
        text = f"{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){result}"
    return f"```python\n{_quoted(text)}\n```\n"


def _arguments(arguments: ast.arguments, constants: dict[str, str]) -> Iterator[str]:
    padding: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    for argument, default in zip(arguments.args, [*padding, *arguments.defaults], strict=True):
        yield _argument(argument, default, constants)
    if arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default, constants)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _argument(argument: ast.arg, default: ast.expr | None, constants: dict[str, str]) -> str:
    value = ast.unparse(default) if default else None
    return ast.unparse(argument) + (f" = {constants.get(value, value)}" if value else "")


def _quoted(code: str) -> str:
    """Return code with double quotes, without those around forward references."""
    return re.sub(r"-> '(\w+)'", r"-> \1", code).replace("'", '"')


def _docstring(tree: ast.FunctionDef | ast.ClassDef) -> str:
    """Return a docstring in Google style as Markdown."""
    text = (ast.get_docstring(tree) or "") + "\n"
    first = SECTION.search(text)
    summary = text[: first.start()] if first else text
    blocks = [f"{_fill(paragraph)}\n" for paragraph in summary.strip().split("\n\n")]
    for section, body in SECTION.findall(text):
        content = textwrap.dedent(body).strip()
        title = TITLES.get(section, section)
        if section in ("Returns", "Yields"):
            blocks.append(f"{_fill(f'{title}: {content}')}\n")
            continue
        entries = (entry.partition(":") for entry in re.split(r"\n(?! )", content))
        blocks.append(f"{title}:\n\n" + _list([(f"`{name}`", meaning) for name, _, meaning in entries]))
    return "\n".join(blocks)


def _list(items: list[tuple[str, str]]) -> str:
    lines = (f"- {name}: {meaning}" if meaning else f"- {name}" for name, meaning in items)
    return "".join(f"{_fill(line, '  ')}\n" for line in lines)


def _fill(text: str, indent: str = "") -> str:
    joined = " ".join(text.split())
    return textwrap.fill(joined, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
