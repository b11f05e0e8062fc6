"""docs/monitoring: every metric and label of the dashboard and the alert rules exists, and the rules fire."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_process import png, serve

FOLDER = Path(__file__).parents[1] / "docs" / "monitoring"
ALERTS = (FOLDER / "alerts.yml").read_text("utf-8")
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text("utf-8"))
SCRAPED = {"job", "instance"}  # labels that Prometheus adds
METRIC = r"\b(?:belvedere|process)_\w+"
FIRES = """
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: up{job="belvedere",instance="a"}
        values: 0x90
      - series: belvedere_requests_total{instance="a",route="/healthz",status="500"}
        values: 0+1x90
      - series: belvedere_requests_total{instance="a",route="/models/{name}/predict",status="200"}
        values: 0+60x90
      - series: belvedere_rejected_requests_total{instance="a",code="queue_full"}
        values: 0+6x90
      - series: belvedere_rejected_requests_total{instance="a",code="model_failed"}
        values: 0+1x90
      - series: belvedere_request_duration_seconds_bucket{instance="a",route="/predict",le="2.5"}
        values: 0+1x90
      - series: belvedere_request_duration_seconds_bucket{instance="a",route="/predict",le="+Inf"}
        values: 0+60x90
      - series: belvedere_reloads_total{instance="a",model="default",outcome="rejected"}
        values: 0x80 1x10
      - series: belvedere_ood_total{instance="a",model="default"}
        values: 0+40x90
      - series: belvedere_images_total{instance="a",model="default",outcome="predicted"}
        values: 0+60x90
      - series: belvedere_images_total{instance="a",model="default",outcome="invalid"}
        values: 0+60x90
    promql_expr_test:
      - expr: count(ALERTS{alertstate="firing"})
        eval_time: 90m
        exp_samples: [{labels: "{}", value: NUMBER}]
  - interval: 1m
    input_series:
      - series: up{job="belvedere",instance="a"}
        values: 1x90
      - series: belvedere_requests_total{instance="a",route="/predict",status="200"}
        values: 0+60x90
      - series: belvedere_ood_total{instance="a",model="default"}
        values: 0+3x90
      - series: belvedere_images_total{instance="a",model="default",outcome="predicted"}
        values: 0+60x90
      - series: belvedere_reloads_total{instance="a",model="default",outcome="loaded"}
        values: 0+1x90
    promql_expr_test:
      - expr: count(ALERTS)
        eval_time: 90m
"""


def rule_expressions() -> list[str]:
    """Return the expressions of the rules; a folded one continues on deeper lines."""
    found = re.findall(r"^ {8}expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", ALERTS, flags=re.MULTILINE)
    return [" ".join((folded or line).split()) for folded, line in found]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


EXPRESSIONS = [*rule_expressions(), *panel_expressions()]


@pytest.fixture(scope="module")
def exposed() -> dict[str, dict[str, set[str]]]:
    """Return the values of each label of each metric of a server that has predicted."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    with serve() as server:
        assert server.post_raw(png("red")).status == 200
        assert server.get("/nowhere").status == 404
        text = server.get("/metrics").content.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found[sample.name]
            for label, value in sample.labels.items():
                labels[label].add(value)
    return found


def test_there_are_expressions() -> None:
    assert len(rule_expressions()) == ALERTS.count("- alert:") >= 8
    assert len(panel_expressions()) >= 15


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_metrics_and_labels_exist(exposed: dict[str, dict[str, set[str]]], expression: str) -> None:
    used = re.findall(rf"({METRIC})(?:{{(.*?)}}(?=\[|\)| |$))?", expression)
    assert used or expression == 'up{job="belvedere"} == 0'
    for name, selector in used:
        assert name in exposed, name
        assert set(re.findall(r'(\w+)=~?"', selector)) <= exposed[name].keys() | SCRAPED
    grouped = {label for each in re.findall(r"\bby \((.*?)\)", expression) for label in each.split(", ")}
    assert grouped <= SCRAPED.union(*(exposed[name].keys() for name, _ in used))


def test_values_of_labels_exist(exposed: dict[str, dict[str, set[str]]]) -> None:
    assert exposed["belvedere_images_total"]["outcome"] == {"predicted", "invalid"}
    assert exposed["belvedere_reloads_total"]["outcome"] == {"loaded", "rejected", "missing"}
    assert exposed["belvedere_images_total"]["model"] == {"default"}
    source = Path(__file__).parents[1] / "src" / "belvedere"
    code = "".join(
        file.read_text("utf-8") for name in ("serving", "runtime/http") for file in (source / name).glob("*.py")
    )
    for group in re.findall(r'code=~?"(.*?)"', ALERTS):
        assert all(f'"{each}"' in code for each in group.split("|"))


def test_the_dashboard_uses_its_variables() -> None:
    names = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert names == {"source", "job", "instance", "model"}
    text = json.dumps(DASHBOARD["panels"])
    assert set(re.findall(r"\$\{?(\w+)", text)) == names | {"__rate_interval"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for query in (str(each["query"]) for each in DASHBOARD["templating"]["list"]):
        assert query == "prometheus" or re.fullmatch(rf"label_values\({METRIC}(?:{{.*}})?, \w+\)", query)


def promtool(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "alerts.yml").write_text(ALERTS, "utf-8")
    yield tmp_path


@needs_promtool
def test_every_rule_fires_on_a_fault_and_none_without(rules: Path) -> None:
    promtool(rules, "check", "rules", "alerts.yml")
    (rules / "test.yml").write_text(FIRES.replace("NUMBER", str(ALERTS.count("- alert:"))), "utf-8")
    promtool(rules, "test", "rules", "test.yml")


@needs_promtool
def test_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    lines = [
        f"  - record: a:b:c{number}\n    expr: {json.dumps(each.replace('$__rate_interval', '5m'))}"
        for number, each in enumerate(panel_expressions())
    ]
    (tmp_path / "panels.yml").write_text("\n".join(["groups:", "- name: a", "  rules:", *lines, ""]), "utf-8")
    promtool(tmp_path, "check", "rules", "panels.yml")
