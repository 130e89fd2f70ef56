"""The description of a command that 3D Slicer reads, made from the same options as its help.

Programs that follow the Slicer execution model print such a description for ``--xml``. Slicer makes
a panel of it, writes volumes into files, and runs the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from convnd import __version__
from convnd.options import Flag, Range, flag_name, flags_of, number_text, ranges_of
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["module_description"]

_KIND = "volumes"
_EXTENSIONS = ".nii.gz,.nii,.nrrd,.mha"
_LABEL_MAPS = ("mask", "regions")
_MOST_ON_A_SLIDER = 1000
_LEFT_OUT = {"output", "overwrite", "resume", "progress", "dry_run", "sheet", "vary"}
"""Options that Slicer has no use for, since it names the output."""


def module_description() -> str:
    """Describe ``convnd stylize-volume`` in the XML of the Slicer execution model.

    Slicer passes defaults as if they were typed, so only options that apply to scans are listed.

    >>> module_description()[:38]
    '<?xml version="1.0" encoding="utf-8"?>'
    """
    root = Element("executable")
    for name, text in (
        ("category", "Filtering"),
        ("title", "convnd stylize-volume"),
        ("description", "Give a scan the noise, the sharpness or the patterns of another."),
        ("version", __version__),
        ("license", "MIT"),
    ):
        SubElement(root, name).text = text
    _add_files(root)
    panels: dict[str, Element] = {}
    unsupported = modality_class(_KIND).unsupported
    for dataclass in (options_class(_KIND), JobSettings):
        defaults, ranges = dataclass.__dataclass_fields__, ranges_of(dataclass)
        for name, (annotation, flag) in flags_of(dataclass).items():
            applies = not flag.modalities or _KIND in flag.modalities
            if not applies or flag.panel is None or name in {*_LEFT_OUT, *unsupported}:
                continue
            if flag.panel not in panels:
                panels[flag.panel] = _add_panel(root, flag.panel)
            _add_option(
                panels[flag.panel], name, annotation, flag, defaults[name].default, ranges.get(name)
            )
    ElementTree.indent(root)
    description: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{description}\n'


def _add_panel(root: Element, label: str) -> Element:
    panel = SubElement(root, "parameters", advanced="true")
    SubElement(panel, "label").text = label
    SubElement(panel, "description").text = label
    return panel


def _add_files(root: Element) -> None:
    """Add the scan, its style and the result."""
    panel = SubElement(root, "parameters")
    SubElement(panel, "label").text = "Files"
    SubElement(panel, "description").text = "The scan, its style and the result"
    for name, where, channel, text in (
        ("scan", ("index", "0"), "input", "The scan that changes"),
        ("style", ("longflag", "style"), "input", "The scan whose look it takes"),
        ("output", ("longflag", "output"), "output", "The result"),
    ):
        image = SubElement(panel, "image", fileExtensions=_EXTENSIONS)
        _fill(image, name, text, where)
        SubElement(image, "channel").text = channel
    overwrite = SubElement(panel, "boolean")
    _fill(overwrite, "overwrite", "Replace the file of the result", ("longflag", "overwrite"))
    SubElement(overwrite, "default").text = "true"


def _add_option(
    panel: Element, name: str, kind: Any, flag: Flag, default: Any, allowed: Range | None
) -> None:
    """Add one option; those without a number by default are texts, which may stay empty."""
    option = flag.names[0] if flag.names else flag_name(name)
    positive, _, negative = option.partition("/")
    if name in _LABEL_MAPS:
        image = SubElement(panel, "image", type="label", fileExtensions=_EXTENSIONS)
        _fill(image, name, flag.help, ("longflag", positive.lstrip("-")))
        SubElement(image, "channel").text = "input"
        return
    if kind is bool:
        typed = negative if default else positive
        element = SubElement(panel, "boolean")
        _fill(element, typed.lstrip("-"), flag.help, ("longflag", typed.lstrip("-")))
        SubElement(element, "default").text = "false"
        return
    has_default = default not in (None, "", ())
    numbers: Mapping[Any, str] = {int: "integer", float: "float"}
    closed = bool(flag.choices) and flag.metavar is None and has_default and kind is str
    tag = "string-enumeration" if closed else numbers.get(kind, "string")
    element = SubElement(panel, tag)
    _fill(element, name, flag.help, ("longflag", positive.lstrip("-")))
    if has_default:
        text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        SubElement(element, "default").text = text
    if closed:
        for choice in flag.choices:
            SubElement(element, "element").text = choice
    # Slicer makes a slider of a range, which is of no use for a large one.
    if allowed is not None and tag in numbers.values() and allowed.high <= _MOST_ON_A_SLIDER:
        step = 1 if tag == "integer" else (allowed.high - allowed.low) / 100
        constraints = SubElement(element, "constraints")
        for part, number in (("minimum", allowed.low), ("maximum", allowed.high), ("step", step)):
            SubElement(constraints, part).text = number_text(number)


def _fill(element: Element, name: str, text: str, place: tuple[str, str]) -> None:
    """Add name, label, description, and the option or position of the value."""
    words = name.replace("_", " ").replace("-", " ")
    SubElement(element, "name").text = name.replace("-", "_")
    SubElement(element, "label").text = words[:1].upper() + words[1:]
    SubElement(element, "description").text = text
    SubElement(element, place[0]).text = place[1]
