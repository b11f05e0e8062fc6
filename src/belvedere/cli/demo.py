"""The command `demo`."""

from pathlib import Path

import belvedere
from belvedere.cli.app import (
    AsJson,
    Out,
    Overwrite,
    Seed,
    app,
    console,
    print_json,
    print_report_path,
)


@app.command()
def demo(
    out: Out = Path("belvedere-demo"), seed: Seed = 0, overwrite: Overwrite = False, as_json: AsJson = False
) -> None:
    """Draw a practice set, run the whole job on it and say where the report is (a minute or two)."""
    from belvedere.inference.writers.text import show_evaluation, show_predictions
    from belvedere.runtime.progress import console_progress

    shown = belvedere.run_demo(out, seed=seed, overwrite=overwrite, progress=console_progress())
    if as_json:
        found = {one.what: {"precision": one.precision, "recall": one.recall} for one in shown.found}
        print_json({"report": str(shown.report), "fjord": shown.fjord.answer, "audit": found, **shown.run.metrics})
        return
    terminal = console()
    terminal.print("Found of the planted faults:")
    for one in shown.found:
        terminal.print(
            f"  {one.what}: {one.right} of {one.planted}, {one.flagged} flagged "
            f"(recall {one.recall:.2f}, precision {one.precision:.2f})"
        )
    show_evaluation(terminal, shown.run.evaluation)
    shares = sorted(shown.fjord_shares.items(), key=lambda item: -item[1])
    terminal.print("\nA fjord, which holds " + ", ".join(f"{name} {share:.0%}" for name, share in shares) + ":")
    show_predictions(terminal, [shown.fjord], shown.run.evaluation.class_names)
    print_report_path(shown.report)
