"""The command `demo`."""

from pathlib import Path

import belvedere
from belvedere.cli.app import AsJson, Out, Overwrite, Seed, command, console, print_json, print_report_path


@command()
def demo(
    out: Out = Path("belvedere-demo"), seed: Seed = 0, overwrite: Overwrite = False, as_json: AsJson = False
) -> None:
    """Draw a synthetic dataset, audit it, train on it and predict an image with several classes (a minute or two)."""
    from belvedere.cli.progress import TrainingProgress
    from belvedere.cli.tables import show_evaluation, show_predictions

    result = belvedere.run_demo(out, seed=seed, overwrite=overwrite, progress=TrainingProgress("demo"))
    if as_json:
        scores = {one.name: {"precision": one.precision, "recall": one.recall} for one in result.scores}
        found = {"report": str(result.report), "fjord": result.fjord.answer, "audit": scores}
        print_json(found | result.run.metrics)
        return
    terminal = console()
    terminal.print("Planted faults that the audit found:")
    for one in result.scores:
        terminal.print(
            f"  {one.name}: {one.correct} of {one.planted}, {one.flagged} flagged "
            f"(recall {one.recall:.1%}, precision {one.precision:.1%})"
        )
    show_evaluation(terminal, result.run.evaluation)
    areas = sorted(result.fjord_areas.items(), key=lambda item: -item[1])
    terminal.print("\nA fjord, with " + ", ".join(f"{name} {area:.0%}" for name, area in areas) + ":")
    show_predictions(terminal, [result.fjord], result.run.evaluation.class_names)
    print_report_path(result.report)
