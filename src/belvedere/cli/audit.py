"""The command `audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import belvedere
from belvedere.cli.app import (
    AsJson,
    Code,
    Corrections,
    Data,
    GroupBy,
    Layout,
    NetworkName,
    Out,
    Overwrite,
    Root,
    Seed,
    Spreadsheet,
    WeightsFile,
    console,
    image_command,
    print_json,
    print_report_path,
    run_code,
)
from belvedere.runtime.terminal import print_error

if TYPE_CHECKING:
    from belvedere.types.audit import Audit

SkipLabelIssues = Annotated[
    bool, typer.Option("--skip-label-issues", help="Do not look for wrong labels and outliers.")
]
SkipNearDuplicates = Annotated[bool, typer.Option("--skip-near-duplicates", help="Do not look for near duplicates.")]
LabelModel = Annotated[
    Path | None, typer.Option("--model", help="Model to find label issues with; it must not be trained on DATA.")
]
FailOnIssues = Annotated[bool, typer.Option("--fail-on-issues", help="End with exit code 1 if there are issues.")]
FailOn = Annotated[
    list[str] | None,
    typer.Option("--fail-on", metavar="CHECK", help="The same, for this check only; repeatable.", show_default=False),
]


@image_command("belvedere audit images", "belvedere audit images --out checked --fail-on split_leak")
def audit(
    data: Data,
    root: Root = None,
    layout: Layout = "auto",
    model: LabelModel = None,
    network: NetworkName = None,
    weights: WeightsFile = None,
    corrections: Corrections = None,
    skip_label_issues: SkipLabelIssues = False,
    skip_near_duplicates: SkipNearDuplicates = False,
    group_by: GroupBy = None,
    out: Out = Path("audit"),
    seed: Seed = 0,
    fail_on_issues: FailOnIssues = False,
    fail_on: FailOn = None,
    overwrite: Overwrite = False,
    spreadsheet: Spreadsheet = False,
    code: Code = None,
    as_json: AsJson = False,
) -> None:
    """Find wrong labels, duplicates, split leaks and damaged images.

    Also outliers, and images that are odd: dark, blurry, of another size.
    """
    from belvedere.auditing.checks import CHECKS
    from belvedere.auditing.output import to_json
    from belvedere.cli.progress import StageProgress
    from belvedere.data.groups import group_column

    run_code(code)
    for name in fail_on or ():
        CHECKS.find(name)
    progress = StageProgress("audit")
    dataset = belvedere.load_dataset(
        data, corrections, progress, root=root, layout=layout, group_column=group_column(group_by)
    )
    found = belvedere.audit(
        dataset,
        out=out,
        model=model,
        network=network,
        weights=weights,
        label_issues=not skip_label_issues,
        near_duplicates=not skip_near_duplicates,
        group_by=group_by,
        seed=seed,
        overwrite=overwrite,
        spreadsheet=spreadsheet,
        progress=progress,
    )
    progress.log_warnings(found.warnings)
    if as_json:
        print_json(to_json(found))
    else:
        _show_checks(found)
        print_report_path(out / "report.html")
    failed = {each.issue_type for each in found.checks if each.num_flagged}
    if failed if fail_on_issues else failed & set(fail_on or ()):
        raise typer.Exit(1)


def _show_checks(found: "Audit") -> None:
    from belvedere.cli.tables import show_findings

    checks = found.checks
    show_findings(console(), [(one.title, one.num_flagged, one.example) for one in checks if one.num_flagged])
    print_error(f"{sum(not one.num_flagged for one in checks)} of {len(checks)} checks found nothing.")
    if found.label_issue_method:
        print_error(f"Label issues found by {found.label_issue_method}.")
