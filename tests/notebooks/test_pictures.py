"""The pictures in images/, which the notebooks show."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from workshop import ROOT

PICTURES = sorted((ROOT / "images").glob("*.svg"))
every_picture = pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)


@every_picture
def test_a_picture_has_a_title_and_a_description(path: Path) -> None:
    svg = ElementTree.parse(path).getroot()
    told = {child.get("id"): child.text for child in svg if child.tag.endswith(("title", "desc"))}
    assert svg.attrib["aria-labelledby"].split() == list(told) and all(told.values())


@every_picture
def test_a_picture_has_an_opaque_background(path: Path) -> None:
    svg = ElementTree.parse(path).getroot()
    background = next(child for child in svg if child.tag.endswith("rect"))
    assert background.get("fill") == "#FFF"
    assert [float(background.attrib[side]) + 1 for side in ("width", "height")] == [
        float(svg.attrib[side]) for side in ("width", "height")
    ]


def test_there_are_at_least_four_pictures() -> None:
    assert len(PICTURES) >= 4
