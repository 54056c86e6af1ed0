"""Commands for many networks or figures: range, ensemble, augment, gallery."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli import output
from ravine.errors import InputError

if TYPE_CHECKING:
    from ravine.recipe import Recipe
    from ravine_gallery.experiment import Experiment


def range_command(
    what: cli.SourceName,
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    low: float = 1e-6,
    high: float = 10.0,
    rates: cli.Integer = 36,
    seeds: cli.Integer = 3,
    steps: cli.Integer = 200,
    out: cli.OutputPath = None,
    force: cli.Force = False,
    json: cli.Json = False,
) -> int:
    """Find the usable learning rates: a cohort of networks, each with a constant rate of its own,
    for a few steps.

    Parameters
    ----------
    low
        The lowest rate.
    high
        The highest rate.
    rates
        How many rates, evenly on a log scale.
    seeds
        How many networks at each rate.
    steps
        How many steps each makes, about.
    out
        Where to draw it: a .svg, .png or .pdf file.
    """
    from ravine.studies.lr_range_test import range_test

    output.check_writable(out, force=force, endings=output.FIGURE_ENDINGS, what="figures")
    recipe = cli.recipe_for(what, options)
    found = range_test(recipe, low=low, high=high, rates=rates, seeds=seeds, steps=steps)
    if out is not None:
        output.write_figure(found.figure(), out)
    output.print_result(found, as_json=json)
    return 0


def ensemble_command(
    what: cli.SourceName,
    /,
    *,
    members: cli.Integer = 4,
    repeats: cli.Integer = 4,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    json: cli.Json = False,
) -> int:
    """Compare ensembles with single networks of the same budget: independent members, snapshots,
    averaged weights.

    Parameters
    ----------
    members
        How many networks, snapshots or cycles.
    repeats
        How often everything is trained anew.
    """
    from ravine.studies.ensemble import compare_ensembles

    found = compare_ensembles(cli.recipe_for(what, options), members=members, repeats=repeats)
    output.print_result(found, as_json=json)
    return 0


def augment_command(
    what: str = "",
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    out: Annotated[Path, Parameter(name=["-o", "--out"])] = Path("augmented.png"),
    force: cli.Force = False,
) -> int:
    """Draw a contact sheet: training images as they are, and as a recipe's augmentation shows them
    to networks.

    Parameters
    ----------
    what
        A folder of images, a table of paths, or a recipe (.toml) that names one.
    out
        Where to draw it: a .svg, .png or .pdf file.
    """
    from ravine.studies.contact_sheet import contact_sheet

    output.check_writable(out, force=force, endings=output.FIGURE_ENDINGS, what="figures")
    output.write_figure(contact_sheet(image_recipe_for(what, options)), out)
    output.echo(f"the contact sheet is in {out}", file=sys.stderr)
    return 0


def image_recipe_for(what: str, options: cli.RecipeOptions) -> Recipe:
    """The recipe whose augmentation is drawn; `--recipe` may be a file beside the images."""
    from ravine import data
    from ravine.recipe_files import read_recipe

    name = options.recipe
    if not what and name is None:
        why = "neither images nor a recipe is named"
        do = "write ravine augment photos/ --recipe r.toml"
        raise InputError("there is nothing to draw", why=why, do=do)
    if name is None or not name.endswith(".toml") or what.endswith(".toml"):
        return cli.recipe_for(what, options)
    recipe = read_recipe(name)
    if what and isinstance(recipe.data, data.Images):
        recipe = recipe.vary("data.source", what)
    elif what:
        recipe = recipe.vary("data", data.Images(source=what))
    return cli.apply_options(recipe, options)


def gallery_command(
    name: str | None = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    out: cli.OutputPath = None,
    quick: cli.Switch = False,
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """List the experiments on the lectures' claims; run one, or all, and draw what came out.

    Parameters
    ----------
    name
        The experiment to run; without it they are listed.
    all_
        Run all experiments.
    out
        A folder for figures, numbers and one page: NAME.svg, results.json, index.html. Experiments
        that it holds stay on the page.
    quick
        Fewer seeds and steps: to look, not to cite.
    """
    from ravine.reporting.text_table import hanging_text
    from ravine_gallery import experiment_names, find_experiment
    from ravine_gallery.run_all import PAGE_FILE, results_to_json, run_experiments

    if name is not None and all_:
        why = "--all runs that one too"
        raise InputError(f"{name} beside --all", why=why, do="leave one of them out")
    if all_ and out is None:
        why = "figures and page are files"
        raise InputError("--all without a folder", why=why, do="add -o DIR")
    if name is None and not all_:
        if out is not None:
            what, why = f"-o {out} without an experiment", "there is nothing to write"
            raise InputError(what, why=why, do="name one, or add --all")
        list_experiments([find_experiment(known) for known in experiment_names()], json=json)
        return 0
    chosen = experiment_names() if name is None else (name,)
    say = (lambda line: None) if quiet else (lambda line: output.echo(line, file=sys.stderr))
    results = run_experiments(chosen, folder=out, quick=quick, say=say)
    if json:
        print(results_to_json(results), end="")
    else:
        for result in results:
            text = result.error if result.outcome is None else result.outcome.said
            output.echo(hanging_text("", f"{result.experiment.name}: {result.verdict}. {text}"))
        if out is not None:
            output.echo(f"the page is {out / PAGE_FILE}", file=sys.stderr)
    return 3 if any(result.outcome is None for result in results) else 0


def list_experiments(experiments: Sequence[Experiment], *, json: bool) -> None:
    """Print name, seconds, title and techniques of each experiment."""
    from ravine.reporting.text_table import hanging_text

    if json:
        names = ("name", "title", "rows", "seconds")
        output.print_json({"experiments": [{n: getattr(e, n) for n in names} for e in experiments]})
        return
    width = max((len(e.name) for e in experiments), default=0)
    for experiment in experiments:
        label = f"{experiment.name:{width}}  {experiment.seconds:3.0f} s  "
        output.echo(hanging_text(label, f"{experiment.title} ({' '.join(experiment.rows)})"))
