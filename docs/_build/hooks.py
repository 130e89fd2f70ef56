"""Hooks of MkDocs: they add pages from code and from root files, and formulas as MathML."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import pages

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the generated pages."""
    for path, text in pages.generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Converts formulas to MathML, which browsers render without JavaScript."""

    def draw(match: re.Match[str]) -> str:
        block = match[1] == "div"
        formula = html.unescape(match[2]).strip()[2:-2]  # without \( \) or \[ \]
        drawn = convert(formula, display="block" if block else "inline")
        return f'<div class="formula">{drawn}</div>' if block else drawn

    return _FORMULA.sub(draw, content)
