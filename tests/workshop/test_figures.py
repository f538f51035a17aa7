import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from workshop import figures, style

NAMES = ["cat", "dog", "frog"]
IMAGES = np.arange(9, dtype=np.uint8).repeat(64).reshape(9, 8, 8, 1)  # image N consists of the value N
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
PREDICTIONS = np.array([0, 1, 1, 1, 0, 1, 2, 2, 2])
HISTORY = [
    {"epoch": epoch, "step": 40 * epoch, "loss": 2 / epoch, "accuracy": 1 - 0.5 / epoch}
    | {"val_loss": 3 / epoch, "val_accuracy": 1 - 0.6 / epoch}
    for epoch in (1, 2, 3)
]


def transitions(*statuses: tuple[str, float | None]) -> list[dict[str, Any]]:
    """SecondaryStatusTransitions from statuses and their seconds, which are None for a status without an end."""
    time = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
    result = []
    for status, seconds in statuses:
        transition = {"Status": status, "StartTime": time, "StatusMessage": ""}
        time += timedelta(seconds=seconds or 0)
        result.append(transition if seconds is None else transition | {"EndTime": time})
    return result


SPOT = transitions(
    ("Starting", 2), ("Training", 5), ("Interrupted", 3), ("Starting", 1), ("Training", 4), ("Completed", 0)
)
BILLED = {"CreationTime": SPOT[0]["StartTime"], "SecondaryStatusTransitions": SPOT, "BillableTimeInSeconds": 3}
DRAWINGS: dict[str, Callable[[], Figure]] = {
    "sample_images": lambda: figures.sample_images(IMAGES.repeat(4, 0), np.arange(36) % 10, list("0123456789")),
    "learning_curves": lambda: figures.learning_curves({"bare": HISTORY, "Spot": HISTORY}, [60]),
    "status_timeline": lambda: figures.status_timeline(
        {"every status": transitions(*((status, 1) for status in [*style.LASTING, *style.FINAL]))}
    ),
    "cost_curves": lambda: figures.cost_curves({"On-Demand": [BILLED], "Spot": [BILLED, BILLED]}),
    "latencies": lambda: figures.latencies({"1 image": [0.003] * 50 + [0.2], "60 images": [0.01, 0.02]}),
    "confusion_matrix": lambda: figures.confusion_matrix(LABELS, PREDICTIONS, NAMES),
    "confused_pairs": lambda: figures.confused_pairs(IMAGES, LABELS, 2 - LABELS, ["airplane", "frog", "automobile"]),
}
every_figure = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def png(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def highest(axis: Any) -> int:
    """The highest value of an axis's image."""
    return int(axis.images[0].get_array().max())


def contrast(one: Any, other: Any) -> float:
    """The contrast ratio of two colours, 1 to 21, as the Web Content Accessibility Guidelines define it."""
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)] for colour in (one, other)
    ]
    dark, light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (light + 0.05) / (dark + 0.05)


@every_figure
def test_the_same_data_give_the_same_bytes(draw: Callable[[], Figure]) -> None:
    assert png(draw()) == png(draw())


@every_figure
def test_a_figure_is_not_shown_a_second_time(draw: Callable[[], Figure]) -> None:
    draw()
    assert plt.get_fignums() == []


@every_figure
def test_a_figure_has_an_opaque_background(draw: Callable[[], Figure]) -> None:
    assert draw().get_facecolor() == (1, 1, 1, 1)


@every_figure
def test_a_figure_fits_a_notebook_of_800_pixels(draw: Callable[[], Figure]) -> None:
    width = int.from_bytes(png(draw(), bbox_inches="tight")[16:20])  # as the inline backend crops it
    assert 0 < width <= 800


def test_numbers_in_a_matrix_contrast_with_every_shade() -> None:
    axis = figures.confusion_matrix(LABELS, PREDICTIONS, NAMES).axes[0]
    for image in axis.images:
        assert min(contrast(axis.texts[0].get_color(), image.get_cmap()(shade)) for shade in (0.0, 1.0)) > 7


def test_samples_are_the_first_of_each_class_under_its_name() -> None:
    figure = figures.sample_images(IMAGES, LABELS, NAMES, per_class=2)
    assert titles(figure) == NAMES
    assert [highest(axis) for axis in figure.axes] == [0, 3, 6, 1, 4, 7]


def test_a_class_with_few_images_leaves_the_rest_of_its_column_empty() -> None:
    figure = figures.sample_images(IMAGES[2:], LABELS[2:], NAMES)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 0, 1, 1, 0, 1, 1]


def test_coinciding_curves_get_thinner_and_differ_in_line_style() -> None:
    axis = figures.learning_curves({"bare": HISTORY, "on-demand": HISTORY, "Spot": HISTORY}).axes[0]
    widths = [line.get_linewidth() for line in axis.lines]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == 3
    assert len({line.get_linestyle() for line in axis.lines}) == 3


def test_accuracy_is_shown_in_percent_over_steps() -> None:
    accuracy = figures.learning_curves({"bare": HISTORY}).axes[2]
    assert np.allclose(accuracy.lines[0].get_xydata(), [(40, 40), (80, 70), (120, 80)])
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("Training step", "Validation accuracy (%)")


def test_interruptions_are_marked_at_their_steps() -> None:
    figure = figures.learning_curves({"Spot": HISTORY}, [60, 100])
    for axis in figure.axes:
        paths: Any = axis.collections[0].get_paths()
        assert [path.vertices[0, 0] for path in paths] == [60, 100]
    assert legend(figure) == ["Spot", "interruption"]


def test_a_run_without_interruptions_has_none_in_its_legend() -> None:
    assert legend(figures.learning_curves({"bare": HISTORY, "Spot": HISTORY})) == ["bare", "Spot"]


def test_more_jobs_than_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        figures.learning_curves({str(number): HISTORY for number in range(4)})


def test_a_bar_starts_when_its_status_started() -> None:
    axis: Any = figures.status_timeline({"Spot": SPOT}).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [
        (0, 2),
        (2, 5),
        (7, 3),
        (10, 1),
        (11, 4),
    ]


def test_each_job_has_a_row_in_the_order_given() -> None:
    axis: Any = figures.status_timeline({"On-Demand": transitions(("Training", 9)), "Spot": SPOT}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["On-Demand", "Spot"]
    assert axis.patches[0].get_y() < axis.patches[1].get_y() and axis.yaxis_inverted()


def test_the_legend_names_each_status_once_in_the_order_of_a_job() -> None:
    assert legend(figures.status_timeline({"a": SPOT, "b": SPOT})) == [
        "Starting", "Training", "Interrupted", "Completed",
    ]  # fmt: skip


def test_statuses_differ_in_colour_and_hatch_or_marker() -> None:
    lasting, final = style.LASTING.values(), style.FINAL.values()
    assert len({*lasting, style.OTHER}) == len(lasting) + 1
    assert len({marker for _, marker in final}) == len(final)


def test_a_status_without_an_end_is_a_triangle() -> None:
    axis: Any = figures.status_timeline({"Spot": transitions(("Starting", 2), ("Training", None))}).axes[0]
    assert [line.get_marker() for line in axis.lines] == [">"]
    assert axis.lines[0].get_xdata().tolist() == [2]


def test_a_marker_lies_within_the_axis() -> None:
    axis = figures.status_timeline({"Spot": transitions(("Starting", 2), ("Failed", 4), ("Failed", 0))}).axes[0]
    assert axis.get_xlim()[1] > 6


def test_an_unknown_status_is_drawn_and_named() -> None:
    figure = figures.status_timeline({"Spot": transitions(("Hibernating", 4), ("Training", 2))})
    assert legend(figure) == ["Training", "Hibernating"] and len(figure.axes[0].patches) == 2


def test_cost_grows_only_on_an_instance_and_ends_at_the_billable_seconds() -> None:
    line = figures.cost_curves({"Spot": [BILLED]}).axes[0].lines[0]
    points = [(0, 0), (2, 0), (7, 3 * 5 / 9), (11, 3 * 5 / 9), (15, 3)]
    assert np.allclose(line.get_xydata(), points)


def test_a_single_slow_request_does_not_squeeze_the_others_into_one_bar() -> None:
    times = [0.003 + 0.0001 * (number % 20) for number in range(200)] + [1.0]
    axis: Any = figures.latencies({"1 image": times}).axes[0]
    heights = [bar.get_height() for bar in axis.patches]
    assert sum(1 for height in heights if height) > 5 and heights[-1] == 1 and sum(heights) == 201
    assert axis.get_title() == "1 image: half below 4.0 ms (the line), 99 % below 4.9 ms"


def test_all_kinds_of_requests_share_a_time_axis() -> None:
    one, other = figures.latencies({"1 image": [0.001] * 9, "60 images": [0.01] * 9}).axes
    assert one.get_xlim() == other.get_xlim() == (0, 30)


def test_a_matrix_shows_the_counts_by_true_and_predicted_class() -> None:
    axis = figures.confusion_matrix(LABELS, PREDICTIONS, NAMES).axes[0]
    cells = {text.get_position(): text.get_text() for text in axis.texts}
    assert cells == {(0, 0): "1", (1, 0): "2", (0, 1): "1", (1, 1): "2", (2, 2): "3"}
    for axis_labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in axis_labels] == NAMES


def test_a_class_that_never_occurs_keeps_its_row() -> None:
    axis = figures.confusion_matrix(np.array([0, 2]), np.array([0, 2]), NAMES).axes[0]
    assert {text.get_position() for text in axis.texts} == {(0, 0), (2, 2)}


def test_pairs_are_ordered_by_how_often_they_were_confused() -> None:
    figure = figures.confused_pairs(IMAGES, LABELS, PREDICTIONS, NAMES)
    assert titles(figure) == ["cat taken\nfor dog\n2×", "dog taken\nfor cat\n1×"]


def test_pairs_show_the_confused_images_up_to_a_limit() -> None:
    figure = figures.confused_pairs(IMAGES, LABELS, PREDICTIONS, NAMES, pairs=1, examples=1)
    assert [highest(axis) for axis in figure.axes] == [1]


def test_without_errors_the_figure_says_so() -> None:
    figure = figures.confused_pairs(IMAGES, LABELS, LABELS, NAMES)
    assert figure.axes[0].texts[0].get_text() == "No errors in 9 images"
