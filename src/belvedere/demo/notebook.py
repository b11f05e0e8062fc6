"""HTML of the demo's results for notebooks."""

from belvedere.auditing.notebook import audit_parts
from belvedere.demo.dataset import FJORD
from belvedere.demo.demo import Demo
from belvedere.evaluation.report.notebook import load_figure
from belvedere.evaluation.report.text import describe_prediction
from belvedere.runtime import notebook
from belvedere.training.notebook import run_parts


def demo_html(demo: Demo) -> str:
    """Return the demo: the planted faults that were found, the fjord, the run and the audit."""
    rows = [
        (each.name, f"{each.planted}", f"{each.flagged}", f"{each.recall:.1%}", f"{each.precision:.1%}")
        for each in demo.scores
    ]
    areas = ", ".join(
        f"{name} {area:.0%}" for name, area in sorted(demo.fjord_areas.items(), key=lambda item: -item[1])
    )
    return notebook.block(
        notebook.title(f"Demo: {demo.data}"),
        notebook.table(("planted fault", "planted", "flagged", "recall", "precision"), rows),
        notebook.title("An image with several classes"),
        notebook.images([load_figure(demo.data / FJORD, [f"shows {areas}", *describe_prediction(demo.fjord)])]),
        notebook.title(f"Run: {demo.run.folder}"),
        *run_parts(demo.run),
        notebook.title(f"Audit of {demo.audit.data}"),
        *audit_parts(demo.audit),
    )
