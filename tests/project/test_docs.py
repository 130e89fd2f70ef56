"""The documentation: links lead somewhere, commands parse, Python runs, the site builds."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
# Paths that are made while the site is built: pages out of code, and copies of files of the root.
GENERATED = re.compile(r"(reference/(convnd|python|commands|options)|project/)")
sys.path.insert(0, str(ROOT / "docs" / "_build"))
import pages  # type: ignore[import-not-found]  # noqa: E402

sys.path.pop(0)
ROOT_COMMAND = pages.root_command()
for parameter in ROOT_COMMAND.params:
    parameter.callback = None  # parsing must not install shell completion
OTHER_COMMANDS = {"pip", "python", "python3", "pytest", "mkdocs", ".", ".ci/check"}


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of some languages on a page."""
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> list[str]:
    """Every command of the page's bash blocks, without comments."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [re.sub(r"\s+# .*|^#.*", "", line).strip() for line in text.splitlines()]
    return [part.strip() for line in lines if line for part in re.split("&&|;", line)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if target.startswith("http") or GENERATED.search(target):
            continue
        assert (page.parent / target).exists(), f"{name(page)}: {target}"


def parse(line: str) -> None:
    """Parses a command of convnd, without running it; an option that does not exist raises."""
    words = shlex.split(line)
    if words[0] == "torchrun":
        words = words[words.index("convnd") :]
    command, name, arguments, context = ROOT_COMMAND, "convnd", words[1:], None
    while True:
        context = command.make_context(name, list(arguments), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = context._protected_args + context.args
        if not rest:
            return
        name, command, arguments = command.resolve_command(context, rest)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page: Path) -> None:
    """Every option of every command in a block is one that exists; nothing runs."""
    for line in command_lines(page):
        if line.split()[0] in ("convnd", "torchrun"):
            parse(line)
        else:
            assert line.split()[0] in OTHER_COMMANDS, f"{name(page)}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_have_options_that_exist(page: Path) -> None:
    for line in re.findall(r"`(convnd [^`\n;#|\\]+)", page.read_text()):
        words = [word for word in line.split() if not re.fullmatch(r"\[?[A-Z]{3,}[\].]*|…", word)]
        try:
            parse(" ".join(words))
        except Exception as error:
            if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError", "Exit"):
                raise AssertionError(line) from error


def test_security_names_tests_that_exist() -> None:
    """Each promise has its test; one that is renamed or moved must be renamed there, too."""
    text = (ROOT / "SECURITY.md").read_text()
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / path).exists(), path
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", text):
        assert f"def {test}(" in source, test


def test_readme_is_short_and_has_the_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    for line in (ROOT / ".ci" / "run").read_text().splitlines():
        if line.startswith("pip install") and "fuzz" not in line:
            assert line in readme


@pytest.mark.parametrize("title", ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY"])
def test_paths_and_names_of_the_code_exist(title: str) -> None:
    """Those in backticks; `site/` is made, and ``convnd.tasks`` is a group of entry points."""
    text = re.sub(r"```.*?```", "", (ROOT / f"{title}.md").read_text(), flags=re.DOTALL)
    words = set(re.findall(r"`([\w./]+)`", text)) - {"site/", "convnd.tasks"}
    for word in words:
        if re.fullmatch(r"convnd(_tasks)?(\.\w+)+", word):
            pkgutil.resolve_name(word)
        elif "/" in word:
            paths = [
                ROOT / folder / word for folder in ("", "convnd", "tasks", "tasks/convnd_tasks")
            ]
            assert any(path.exists() or path.with_suffix(".py").exists() for path in paths), word


def test_the_architecture_fits_on_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 120


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """Each block by itself, beside a photograph and a painting."""
    from convnd_tasks import samples

    from convnd import io

    io.write(tmp_path / "photo.jpg", samples.content(spatial_dims=2, size=64))
    io.write(tmp_path / "painting.jpg", samples.style("cells", spatial_dims=2, size=64))
    for code in blocks(page, "python"):
        if "torchio" in code and importlib.util.find_spec("torchio") is None:
            continue  # of the extra `test`; nothing else needs it
        # The README's five lines take the defaults, which are minutes of work for a small machine.
        code = code.replace('out="result.png")', 'out="result.png", steps=2, size=64)')
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]*src=\"(https?:[^\"]+)|<link[^>]*href=\"(https?:[^\"]+)",
            page.read_text(),
        )
        assert not loaded, f"{page.name} loads {loaded}"


def test_every_promise_of_security_names_its_tests() -> None:
    """Files and functions that SECURITY.md names exist; every promise names one."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    table = text.partition("## What is promised\n")[2].partition("\n**")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    functions = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert len(rows) > 20
    tests = r"`(tests/[\w/]+\.py|test_\w+)`"
    for row in rows:
        named = re.findall(tests, row.split("|")[2])
        assert named or "the same" in row, row
    for name in re.findall(tests, text):
        assert name in functions or (ROOT / name).is_file(), name
