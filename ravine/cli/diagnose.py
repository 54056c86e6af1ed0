"""Commands that find faults: check, doctor, explain."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli.output import check_writable, echo, live_line, print_json, print_report, text_style
from ravine.errors import InputError, RavineError, RunError
from ravine.files import run_state, write_atomically

if TYPE_CHECKING:
    from ravine.diagnosis.rule import Rule
    from ravine.finding import Report
    from ravine.recipe import Recipe

FailOn = Annotated[
    Literal["error", "warning", "note"],
    Parameter(help="Findings of which severity, or a worse one, make the exit code 1."),
]


def check_command(
    what: cli.SourceName,
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    fail_on: FailOn = "warning",
    json: cli.Json = False,
) -> int:
    """Check a recipe and its data before training: data, network, first loss, signal, gradient,
    and whether a small batch can be overfitted.
    """
    from ravine.examination.api import check

    return print_report(check(cli.recipe_for(what, options)), as_json=json, fail_on=fail_on)


def doctor_command(
    what: str,
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    fix: cli.Switch = False,
    trials: Annotated[bool, Parameter(negative="--no-trials")] = True,
    out: cli.OutputPath = None,
    force: cli.Force = False,
    fail_on: FailOn = "warning",
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """Find out why a run goes wrong: all checks, its training curves, and remedies that are tried
    before they are recommended.

    Parameters
    ----------
    what
        The folder of a run; or a table, a recipe (.toml), or the name of a bundled set.
    fix
        Write the recipe with the remedies that helped, and show what is different.
    trials
        Try remedies. Without it nothing is trained but a small batch.
    out
        Where --fix writes the recipe (.toml).
    """
    from ravine.examination.recipe_subject import subject_of
    from ravine.examination.rounds import examine_subject

    if out is not None and not fix:
        raise InputError(f"-o {out} without --fix", why="there is nothing to write", do="add --fix")
    if fix and not trials:
        why = "only what was tried and helped is written"
        raise InputError("--fix without trials", why=why, do="leave --no-trials out")
    fixed_path = fixed_recipe_path(what, out, force=force) if fix else None
    if run_state(Path(what)) != "no run":
        subject = subject_of(Path(what), files=cli.moved_files(options))
        recipe = subject.recipe
    else:
        recipe = cli.recipe_for(what, options)
        subject = subject_of(recipe)
    with live_line(quiet) as say:
        report = examine_subject(subject, trials=trials, say=say)
    code = print_report(report, as_json=json, fail_on=fail_on)
    if subject.name is not None:
        text = json_module.dumps(report.to_json(), indent=1)
        try:
            write_atomically(Path(subject.name) / "doctor.json", text.encode())
        except RunError as error:  # the report is printed: that it is not kept as well is a note
            echo(f"note: {error.what}: {error.why}", file=sys.stderr)
    if fixed_path is not None:
        write_fixed_recipe(recipe, report, fixed_path, sys.stderr if json else sys.stdout)
    elif not quiet and any(f.trial and f.trial.verdict == "helped" for f in report.findings):
        echo(f"to write the recipe with what helped: ravine doctor {what} --fix", file=sys.stderr)
    return code


def explain_command(
    name: str = "",
    /,
    *,
    picture: Path | None = None,
    force: cli.Force = False,
    json: cli.Json = False,
) -> int:
    """Explain a finding by its code: what it means, why it happens, how it is measured, what to do.

    Parameters
    ----------
    name
        A code such as RVN-L01 or L01, or a cause such as learning-rate-high; without it all codes
        are listed.
    picture
        Where to draw the experiment of the gallery that shows it: a .svg file.
    """
    from ravine.causes import CAUSES
    from ravine.diagnosis import explain
    from ravine.diagnosis.registry import ALL_RULES, RULES_BY_FAMILY
    from ravine.old_names import RETIRED_CODES

    color = text_style(sys.stdout)["color"]
    topic = explain.find_topic(name, ALL_RULES) if name else ""
    if picture is not None:
        draw_experiment(topic, picture, force=force)
    if not topic:
        if json:
            names = ("code", "title", "cause", "severity")
            listed = {
                family: [{name: getattr(r, name) for name in names} for r in rules]
                for family, rules in RULES_BY_FAMILY.items()
            }
            print_json({"families": listed})
        else:
            print(explain.list_rules(RULES_BY_FAMILY, color=color))
    elif isinstance(topic, str):
        if json:
            codes = [rule.code for rule in explain.rules_naming(topic, ALL_RULES)]
            print_json({"cause": topic, "means": CAUSES[topic], "codes": codes})
        else:
            print(explain.cause_page(topic, ALL_RULES, color=color))
    elif json:
        print_json(explain.rule_to_json(topic))
    else:
        if explain.normalize_code(name) in RETIRED_CODES:
            echo(f"{explain.normalize_code(name)} is now {topic.code}.\n")
        print(explain.rule_page(topic, ALL_RULES, color=color))
    return 0


def draw_experiment(topic: Rule | str, out: Path, *, force: bool) -> None:
    """Quickly run the experiment of the gallery that shows a finding; write its first figure."""
    from ravine_gallery import find_experiment
    from ravine_gallery.run_all import run_experiment

    shows = "" if isinstance(topic, str) else topic.explanation.picture
    if not shows:
        what = f"no figure for {getattr(topic, 'code', topic) or 'all codes'}"
        do = "leave --picture out, or see ravine gallery"
        raise InputError(what, why="no experiment of the gallery shows it", do=do)
    check_writable(out, force=force, endings=(".svg",), what="figures")
    experiment = find_experiment(shows)
    result = run_experiment(experiment, quick=True)
    if not result.pictures:
        raise RavineError(f"the experiment {shows} drew nothing. {result.error}")
    write_atomically(out, next(iter(result.pictures.values())).encode())
    where = f"{out} (all of it: ravine gallery {shows} -o shown)"
    echo(f"{experiment.title}: {where}", file=sys.stderr)


def fixed_recipe_path(what: str, out: Path | None, *, force: bool) -> Path:
    """Where the recipe with remedies goes. Raises `InputError` where a file is already."""
    if out is None:
        stem = Path(what).name.split(".")[0] or "recipe"
        name = f"{stem}-fixed.toml"
        out = Path(what).with_name(name) if what.endswith(".toml") else Path(name)
    check_writable(out, force=force, endings=(".toml",), what="recipes")
    return out


def write_fixed_recipe(recipe: Recipe, report: Report, out: Path, stream: TextIO) -> None:
    """Write the recipe with the remedies that helped, and print what is different."""
    from ravine.examination.recipe_changes import fix_recipe
    from ravine.recipe_files import recipe_differences, recipe_text

    better = fix_recipe(recipe, report)
    if better == recipe:
        print("no remedy was tried and helped: nothing is written", file=stream)
        return
    write_atomically(out, recipe_text(better, out.parent).encode())
    echo(f"\n{out}", file=stream)
    for path, old, new in recipe_differences(recipe, better):
        for sign, value in (("-", old), ("+", new)):
            if value is not None:
                echo(f"{sign} {path} = {value}", file=stream)
    echo(f"next: ravine train {out}", file=sys.stderr)
