"""The one look of all figures. Importing this module sets matplotlib's defaults.

The background is opaque, so that a figure reads the same in a light and in a dark notebook. The colours are those of
Okabe and Ito, which colour-blind readers can distinguish; a line style, hatch, marker or number always repeats what
a colour says.
"""

from typing import Any

import matplotlib.pyplot as plt

BLACK, GREY, WHITE = "#000000", "#BBBBBB", "#FFFFFF"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

plt.rcParams.update(
    {
        "axes.axisbelow": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "figure.facecolor": WHITE,
        "font.family": "DejaVu Sans",  # part of matplotlib, so the same on every machine
        "font.size": 10,
        "grid.color": "#E5E5E5",
        "legend.frameon": False,
    }
)

# Colour and line style of up to three curves. The later ones have gaps, so that equal curves stay visible.
CURVES = ((BLUE, "-"), (ORANGE, "--"), (BLACK, ":"))

# Colour and hatch of the bar of a secondary status, or of a part of Training, in the order of the legend.
LASTING = {
    "Starting": (GREY, ""),
    "Downloading": (SKY, "////"),
    "Script starts": (BLUE, "...."),
    "Training": (BLUE, ""),
    "Work lost": (ORANGE, "xxx"),
    "Interrupted": (VERMILION, "xxx"),
    "Stopping": (PURPLE, "\\\\\\\\"),
    "Uploading": (YELLOW, ""),
}
OTHER = (GREY, "....")  # for a status that is not listed here

# Colour and marker of a secondary status in which a job ends.
FINAL = {
    "Completed": (GREEN, "D"),
    "Stopped": (PURPLE, "s"),
    "MaxRuntimeExceeded": (ORANGE, "v"),
    "MaxWaitTimeExceeded": (ORANGE, "^"),
    "Failed": (BLACK, "X"),
}


def bar(status: str) -> dict[str, Any]:
    """Return matplotlib's arguments for the bar of a status with a duration."""
    colour, hatch = LASTING.get(status, OTHER)
    return {"facecolor": colour, "edgecolor": BLACK, "linewidth": 0.5, "hatch": hatch, "hatchcolor": WHITE}


def marker(status: str) -> dict[str, Any]:
    """Return matplotlib's arguments for the marker of a final status, or of one that still lasts: a triangle."""
    colour, shape = FINAL.get(status, (LASTING.get(status, OTHER)[0], ">"))
    return {"color": colour, "marker": shape, "markersize": 9, "markeredgecolor": BLACK, "linestyle": ""}
