"""The documents are true: their Python runs, their commands parse, their links lead somewhere."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

import ravine
from ravine.cli import run_command

ROOT = Path(ravine.__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
RUN = [
    d for d in DOCUMENTS if d.name != "STYLE.md"
]  # its blocks show how code reads, not how to use this package


def blocks(text, language):
    """The fenced blocks of a language, with the line (from 1) in which each begins."""
    return [
        (text[: m.start()].count("\n") + 1, m[2])
        for m in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
        if m[1] in language
    ]


def commands(text):
    """Every `ravine ...` command in fenced blocks, as a list of words."""
    lines = [
        line
        for _, block in blocks(text, ("", "sh", "bash", "console", "text"))
        for line in block.splitlines()
    ]
    return as_words(lines)


def mentions(text):
    """Every `ravine ...` in running text; it may name a command or an option and leave out what it
    is given.
    """
    return as_words(
        re.findall(
            r"(?<!`)`(ravine [^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        )
    )


def as_words(lines):
    found = []
    for line in lines:
        match = re.match(r"(?:\$ )?(?:\.venv/bin/)?(ravine\s.*)", line)
        if match:
            found.append(shlex.split(match[1], comments=True))
    return found


def links(text):
    """The targets of links, code left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(text):
    """The names under which a document's headings are linked to."""
    titles = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def named(document):
    return str(document.relative_to(ROOT))


PYTHON = [
    pytest.param(block, id=f"{named(d)}:{line}")
    for d in RUN
    for line, block in blocks(d.read_text("utf-8"), ("python", "py"))
]
COMMANDS, MENTIONS = (
    [
        pytest.param(words[1:], id=f"{named(d)}: {' '.join(words)}")
        for d in RUN
        for words in find(d.read_text("utf-8"))
    ]
    for find in (commands, mentions)
)


@pytest.mark.parametrize("block", PYTHON)
def test_python_in_the_documents_runs(block, tmp_path, monkeypatch):
    """In a folder of its own and with no other names, as a reader would."""
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})


def test_the_first_commands_of_the_readme_can_be_pasted(tmp_path, monkeypatch):
    """In a clone, from the first to the last, as they stand there."""
    text = (ROOT / "README.md").read_text("utf-8").partition("## Thirty seconds")[2]
    first = commands(text.partition("```python")[0])
    assert [words[1] for words in first] == ["train", "predict", "doctor"]
    (tmp_path / "ravine").symlink_to(ROOT / "ravine")
    monkeypatch.chdir(tmp_path)
    shorter = {
        "train": ["--set", "epochs=2", "--seeds", "2", "--no-baseline"],
        "doctor": ["--no-trials"],
    }
    for _, *words in first:
        assert run_command([*words, *shorter.get(words[0], [])]) in (0, 1)
    assert len((tmp_path / "runs/predicted.csv").read_text("utf-8").splitlines()) == 345


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_in_the_documents_parse(words):
    from ravine.cli.app import app

    app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("words", MENTIONS)
def test_commands_in_running_text_exist(words):
    import cyclopts

    from ravine.cli.app import app

    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except cyclopts.MissingArgumentError:
        pass  # `ravine predict` alone is the command's name


def test_a_command_that_does_not_exist_would_not_parse():
    import cyclopts

    from ravine.cli.app import app

    for words in (["teach", "penguins"], ["train", "penguins", "--targets", "species"]):
        with pytest.raises(cyclopts.CycloptsError):
            app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_between_documents_resolve(document):
    broken = []
    for link in links(document.read_text("utf-8")):
        if re.match(r"\w+:", link):
            # elsewhere in the world: a test that needs the network fails for the wrong reasons
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


def test_the_readers_of_documents_find_what_is_there():
    text = (
        "# A title\n[a](b.md#c) `[no](x)`\n```sh\nravine train x  # why\n```\n`ravine show runs/x` "
        "and\n"
        "```python\nprint(1)\n```\n"
    )
    assert commands(text) == [["ravine", "train", "x"]] and mentions(text) == [
        ["ravine", "show", "runs/x"]
    ]
    assert links(text) == ["b.md#c"] and anchors(text) == {"a-title"}
    assert blocks(text, ("python",)) == [(7, "print(1)\n")]


def test_the_readme_has_examples_for_both_faces():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(blocks(readme, ("python",))) >= 1 and len(commands(readme)) >= 3


def test_the_readme_shows_every_file_after_one_screen_of_text():
    script = runpy.run_path(str(ROOT / "scripts/readme_tree.py"))
    head, heading, _ = (text := (ROOT / "README.md").read_text("utf-8")).partition(
        script["HEADING"]
    )
    assert heading and text == head + script["readme_tree"](), "run scripts/readme_tree.py"
    assert len(head.splitlines()) <= 75
    listed = re.findall(r"^ +(\w+\.py) ", text, re.M)
    files = [p.name for p in (ROOT / "ravine").rglob("*.py") if p.name != "__init__.py"]
    assert sorted(listed) == sorted(files)
