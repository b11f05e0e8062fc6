"""The command `demo`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import belvedere
from belvedere.cli.app import AsJson, Out, Overwrite, Seed, command, console, print_json
from belvedere.runtime.terminal import print_error

if TYPE_CHECKING:
    from belvedere.demo.demo import Demo


@command("belvedere demo", "belvedere demo --out second --seed 1")
def demo(
    out: Out = Path("belvedere-demo"), seed: Seed = 0, overwrite: Overwrite = False, as_json: AsJson = False
) -> None:
    """Draw a synthetic dataset, audit it, train on it and predict.

    Takes about a minute; nothing is downloaded.
    """
    from belvedere.cli.prediction_table import show_predictions, show_probabilities
    from belvedere.cli.progress import StageProgress
    from belvedere.cli.tables import show_evaluation

    result = belvedere.run_demo(out, seed=seed, overwrite=overwrite, progress=StageProgress("demo"))
    if as_json:
        print_json(result.to_dict())
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
    show_predictions(terminal, [result.fjord])
    show_probabilities(terminal, result.fjord)
    print_error(f"Report of the audit: {result.audit_report}")
    print_error(f"Report of the run: {result.report}")
    print_error("Next:")
    for words in next_commands(result):
        print_error(f"  {shlex.join(words)}")


def next_commands(result: "Demo") -> list[list[str]]:
    """Return the words of three commands that continue with the files of a demo."""
    run, audit = str(result.report.parent), str(result.audit_report.parent)
    return [
        ["belvedere", "review", audit],
        ["belvedere", "predict", run, str(result.data / "test")],
        ["belvedere", "serve", run],
    ]
