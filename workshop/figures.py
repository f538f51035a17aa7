"""The figures of the notebooks.

Every function draws plain data on a new figure and returns it: a notebook shows it once, as the last line of a cell,
and a script can save it. `style` has the colours; importing it also styles the other plots of a notebook.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray
from sklearn import metrics

from workshop import style
from workshop.style import BLACK, CURVES, ORANGE, PURPLE, SKY, WHITE

PANELS = (
    ("loss", "Training loss (nats)", 1),
    ("val_loss", "Validation loss (nats)", 1),
    ("val_accuracy", "Validation accuracy (%)", 100),
)
CHARGED = ("Downloading", "Training", "Uploading")  # secondary statuses in which a job pays for an instance


def sample_images(
    images: NDArray[np.uint8], labels: NDArray[np.int64], class_names: Sequence[str], per_class: int = 3
) -> Figure:
    """Show the first images of each class, one column per class.

    images [N, H, W, C], values 0 to 255, C is 1 or 3; labels [N], indices into class_names.
    """
    records = [np.flatnonzero(labels == label)[:per_class] for label in range(len(class_names))]
    return _columns(images, dict(zip(class_names, records, strict=True)), width=0.78)


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], interruptions: Sequence[int] = ()
) -> Figure:
    """Show loss and accuracy of up to three jobs; equal curves stay visible.

    histories maps the name of a job to the records of its history.json, one per epoch: step, loss and val_loss in
    nats, accuracy and val_accuracy from 0 to 1. interruptions are steps.
    """
    curves = list(zip(histories.items(), CURVES[: len(histories)], strict=True))
    figure, axes = _subplots(7.8, 3, columns=3)
    axes[0, 1].sharey(axes[0, 0])
    for axis, (metric, label, scale) in zip(axes.flat, PANELS, strict=True):
        for above, ((job, records), (colour, line)) in zip(reversed(range(len(curves))), curves, strict=True):
            width = 1.5 + 2.5 * above
            steps = [record["step"] for record in records]
            values = [scale * record[metric] for record in records]
            axis.plot(steps, values, line, color=colour, lw=width, marker="o", ms=width + 2.5, label=job)
        if interruptions:
            span = axis.get_xaxis_transform()  # x in steps, y from 0 to 1 over the whole height
            axis.vlines(interruptions, 0, 1, PURPLE, "-.", zorder=0, transform=span, label="interruption")
        axis.set(xlabel="Training step", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.grid(axis="y")
    entries = axes[0, 0].get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower center", ncols=4, handlelength=4)
    return figure


def status_timeline(jobs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Show the secondary statuses of each job over the seconds since it was created.

    jobs maps a name to the SecondaryStatusTransitions of DescribeTrainingJob; the first one starts when the job is
    created. A marker shows the end of a job, a triangle a status without an EndTime.
    """
    figure, axes = _subplots(7.8, 1.3 + 0.45 * len(jobs))
    axis: Axes = axes[0, 0]
    for row, transitions in enumerate(jobs.values()):
        for transition in transitions:
            _draw_transition(axis, row, transition, transitions[0]["StartTime"])
    axis.set(xlabel="Seconds since the job was created", yticks=range(len(jobs)), yticklabels=list(jobs))
    axis.set_xlim(left=0)
    axis.set_ylim(len(jobs) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    seen = {transition["Status"] for transitions in jobs.values() for transition in transitions}
    ordered = [*style.LASTING, *sorted(seen.difference(style.LASTING, style.FINAL)), *style.FINAL]
    entries = [
        Line2D([], [], label=status, **style.marker(status))
        if status in style.FINAL
        else Patch(label=status, **style.bar(status))
        for status in ordered
        if status in seen
    ]
    columns = 6 if len(entries) <= 6 else 4  # as many as fit
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, fontsize=9, handlelength=1.5)
    return figure


def cost_curves(jobs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Show the billable seconds of up to three trainings over the seconds since each was created.

    jobs maps the name of a training to the descriptions (DescribeTrainingJob) of its jobs, in order. The
    BillableTimeInSeconds of a job are spread evenly over the time in which it had an instance.
    """
    figure, axes = _subplots(7.8, 3)
    axis: Axes = axes[0, 0]
    for (name, descriptions), (colour, line) in zip(jobs.items(), CURVES[: len(jobs)], strict=True):
        created = descriptions[0]["CreationTime"]
        seconds, cost = [0.0], [0.0]
        for description in descriptions:
            used = [status for status in description["SecondaryStatusTransitions"] if status["Status"] in CHARGED]
            total = sum((status["EndTime"] - status["StartTime"]).total_seconds() for status in used)
            for status in used:
                share = (status["EndTime"] - status["StartTime"]).total_seconds() / (total or 1)
                seconds += [(status[side] - created).total_seconds() for side in ("StartTime", "EndTime")]
                cost += [cost[-1], cost[-1] + share * description["BillableTimeInSeconds"]]
        axis.plot(seconds, cost, line, color=colour, lw=2, label=name)
        axis.plot(seconds[-1], cost[-1], "D", color=colour, markeredgecolor=BLACK)
        axis.annotate(f"{cost[-1]:.0f}", (seconds[-1], cost[-1]), (6, 4), textcoords="offset points")
    axis.set(xlabel="Seconds since the job was created", ylabel="Billable seconds so far")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.margins(x=0.06, y=0.12)
    axis.grid()
    axis.legend(loc="upper left", handlelength=4)
    return figure


def latencies(seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Show the durations of requests, one histogram per kind of request, on a common time axis.

    seconds maps a kind of request to the duration of each request. The last bar counts all requests that took more
    than three times the largest median; otherwise a single slow one would squeeze all others into one bar.
    """
    milliseconds = {kind: 1000 * np.asarray(times) for kind, times in seconds.items()}
    bars = np.linspace(0, 3 * max(np.median(times) for times in milliseconds.values()), 51)
    figure, axes = _subplots(7.8, 1.7 * len(seconds), rows=len(seconds))
    for axis, (kind, times), (colour, _) in zip(axes[:, 0], milliseconds.items(), CURVES, strict=False):
        half, nearly_all = np.percentile(times, [50, 99])
        axis.hist(np.minimum(times, bars[-1]), bins=bars, color=colour, edgecolor=WHITE, linewidth=0.5)
        axis.axvline(half, color=BLACK, lw=1.5)
        axis.set(
            title=f"{kind}: half below {half:.1f} ms (the line), 99 % below {nearly_all:.1f} ms", ylabel="Requests"
        )
        axis.set_xlim(0, bars[-1])
    axes[-1, 0].set_xlabel("Milliseconds from request to response (last bar: this or more)")
    return figure


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Show how many records of each class were predicted as which class; empty cells mean none.

    labels [N] and predictions [N] are indices into class_names. Right predictions are blue, wrong ones orange; the
    darkest shade of each colour is its largest number.
    """
    classes = range(len(class_names))
    counts = metrics.confusion_matrix(labels, predictions, labels=list(classes))
    right = np.eye(len(class_names), dtype=bool)
    figure, axes = _subplots(6, 5.4)
    axis: Axes = axes[0, 0]
    for colour, hidden in ((SKY, ~right), (ORANGE, right)):
        shades = LinearSegmentedColormap.from_list("shades", [WHITE, colour])
        axis.imshow(np.where(hidden, np.nan, counts), cmap=shades, vmin=0)
    for row, column in np.argwhere(counts):
        axis.text(column, row, str(counts[row, column]), ha="center", va="center")
    axis.set(
        title="Number of images",
        xlabel="Predicted class",
        ylabel="True class",
        xticks=classes,
        yticks=classes,
    )
    crowded = max(map(len, class_names)) > 3
    axis.set_xticklabels(class_names, rotation=90 if crowded else 0)
    axis.set_yticklabels(class_names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(True)
    return figure


def confused_pairs(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    class_names: Sequence[str],
    pairs: int = 6,
    examples: int = 3,
) -> Figure:
    """Show the most frequent confusions of a class with another, with a few images of each.

    images [N, H, W, C], values 0 to 255; labels [N] and predictions [N], indices into class_names.
    """
    wrong = np.flatnonzero(labels != predictions)
    counts = Counter((int(labels[record]), int(predictions[record])) for record in wrong)
    columns = {}
    for (true, predicted), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:pairs]:
        title = f"{class_names[true]} taken\nfor {class_names[predicted]}\n{count}×"
        columns[title] = np.flatnonzero((labels == true) & (predictions == predicted))[:examples]
    if columns:
        return _columns(images, columns, width=1.28)
    figure, axes = _subplots(6, 0.8)
    axes[0, 0].axis("off")
    axes[0, 0].text(0.5, 0.5, f"No errors in {len(labels)} images", ha="center", va="center")
    return figure


def _subplots(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, NDArray[Any]]:
    """Return a figure of the given size in inches and its axes [rows, columns]."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    plt.close(figure)  # or the notebook would show it again at the end of the cell
    return figure, axes


def _columns(images: NDArray[np.uint8], columns: Mapping[str, NDArray[np.int64]], width: float) -> Figure:
    """Draw columns of images; columns maps the title of each to the indices of its images."""
    rows = max(map(len, columns.values()))
    lines = 1 + max(title.count("\n") for title in columns)
    figure, axes = _subplots(width * len(columns), width * rows + 0.2 * lines, rows, len(columns))
    for axis in axes.flat:
        axis.axis("off")
    for column, (title, records) in enumerate(columns.items()):
        axes[0, column].set_title(title)
        for row, record in enumerate(records):
            axes[row, column].imshow(images[record], cmap="gray_r", vmin=0, vmax=255)
    return figure


def _draw_transition(axis: Axes, row: int, transition: Mapping[str, Any], created: datetime) -> None:
    status = transition["Status"]
    start = (transition["StartTime"] - created).total_seconds()
    if status not in style.FINAL and "EndTime" in transition:
        width = (transition["EndTime"] - transition["StartTime"]).total_seconds()
        axis.barh(row, width, left=start, height=0.5, **style.bar(status))
    else:
        # 8 points to the right, where it hides no bar
        beside = offset_copy(axis.transData, axis.get_figure(root=True), x=8, units="points")
        axis.plot(start, row, transform=beside, clip_on=False, **style.marker(status))
        axis.update_datalim([(start, row)])  # matplotlib does not do it for a custom transform
        axis.autoscale_view()
