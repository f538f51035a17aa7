"""The pages of build/: every executed notebook as HTML, and an index with run times and training jobs.

They are self-contained, with styles, pictures and figures inside, and follow the light or dark mode of the browser.
"""

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from workshop import ROOT
from workshop.publish import normalize

_STYLE = Path(__file__).with_suffix(".css")
_LINK = re.compile(r'href="(\d\d_\w+)\.ipynb"')


@dataclass(frozen=True)
class Run:
    """The result of running one notebook."""

    copy: Path  # the executed notebook
    seconds: float
    failed: bool = False

    @property
    def title(self) -> str:
        """The title of the notebook, or its file name if it has none."""
        cells = nbformat.read(self.copy, as_version=4).cells
        titles = (line[2:] for cell in cells for line in cell.source.splitlines() if cell.cell_type == "markdown")
        return next(titles, self.copy.stem)


def training_jobs(since: datetime, prefix: str) -> list[dict[str, Any]]:
    """Return the descriptions of the jobs that were created since a time and read data under a prefix, oldest first."""
    sagemaker = boto3.client("sagemaker")
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        CreationTimeAfter=since, SortBy="CreationTime", SortOrder="Ascending"
    )
    names = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
    jobs = [sagemaker.describe_training_job(TrainingJobName=name) for name in names]
    return [job for job in jobs if any(f"/{prefix}/" in uri for uri in _inputs(job))]


def write(directory: Path, runs: Sequence[Run], jobs: Sequence[dict[str, Any]]) -> Path:
    """Write a page for each notebook, and index.html; return the path of the index."""
    for number, run in enumerate(runs):
        beside = {"previous": runs[number - 1 : number], "next": runs[number + 1 : number + 2]}
        ways = [f'<a href="{way[0].copy.stem}.html">{name}</a>' for name, way in beside.items() if way]
        navigation = " · ".join(['<a href="index.html">All notebooks</a>', *ways])
        text = _page(run.title, f"<nav>{navigation}</nav><main>{_body(run.copy)}</main>")
        run.copy.with_suffix(".html").write_text(text)
    index = directory / "index.html"
    index.write_text(_page("Managed Spot Training with TensorFlow", _index(runs, jobs)))
    return index


def _index(runs: Sequence[Run], jobs: Sequence[dict[str, Any]]) -> str:
    notebooks = [
        (
            f'<a href="{run.copy.stem}.html">{html.escape(run.title)}</a>',
            f"{run.seconds:.1f} s",
            '<span class="bad">failed</span>' if run.failed else '<span class="good">completed</span>',
        )
        for run in runs
    ]
    total = ("total", f"{sum(run.seconds for run in runs):.1f} s", "")
    parts = [
        "<main class='index'><h1>Managed Spot Training with TensorFlow</h1>",
        "<p>The notebooks of the course as they ran on this machine, and their training jobs.</p>",
        "<h2>The notebooks</h2>",
        _table(("notebook", "run time", ""), [*notebooks, total]),
    ]
    return "".join([*parts, _jobs(jobs) if jobs else "", "</main>"])


def _jobs(jobs: Sequence[dict[str, Any]]) -> str:
    """The table of the jobs, without the prefix that all names share; a line below the table gives it."""
    names = [job["TrainingJobName"] for job in jobs]
    common = os.path.commonprefix(names).rpartition("-")[0] if len(jobs) > 1 else ""
    head = ("training job", "status", "capacity", "interruptions", "training", "billable", "savings", "accuracy")
    table = _table(head, [_job_row(job, common) for job in jobs])
    return (
        f"<h2>The training jobs</h2>{table}<p>"
        + (f"All names begin with <code>{html.escape(common)}</code>. " if common else "")
        + "Training and billable seconds are those of DescribeTrainingJob; savings are 1 − billable / training. In "
        "local mode the discount is simulated. Accuracy is the last one on the validation images.</p>"
    )


def _job_row(job: dict[str, Any], common: str) -> tuple[str, ...]:
    training, billable = job.get("TrainingTimeInSeconds", 0), job.get("BillableTimeInSeconds", 0)
    spot = job.get("EnableManagedSpotTraining", False)
    metrics = {metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList", [])}
    statuses = [transition["Status"] for transition in job["SecondaryStatusTransitions"]]
    return (
        html.escape(job["TrainingJobName"].removeprefix(f"{common}-")),
        job["SecondaryStatus"],
        "Spot" if spot else "on demand",
        str(statuses.count("Interrupted")),
        f"{training} s",
        f"{billable} s",
        f"{(1 - billable / training) * 100:.0f} %" if spot and training else "",
        f"{metrics['validation:accuracy']:.4f}" if "validation:accuracy" in metrics else "",
    )


def _inputs(job: dict[str, Any]) -> list[str]:
    sources = [channel["DataSource"].get("S3DataSource", {}) for channel in job.get("InputDataConfig", [])]
    return [f"{source['S3Uri']}/" for source in sources if "S3Uri" in source]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of HTML cells; cells that begin with a digit are right-aligned."""

    def cell(text: str) -> str:
        return f'<td class="number">{text}</td>' if text[:1].isdigit() else f"<td>{text}</td>"

    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"


def _body(copy: Path) -> str:
    exporter = HTMLExporter(template_name="basic", embed_images=True, anchor_link_text="")
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    notebook = nbformat.read(copy, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("../images/", "images/")  # nbconvert embeds only files below its path
        if cell.cell_type == "code":
            cell.outputs = normalize.merge_streams(cell.outputs)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"path": str(ROOT), "name": copy.stem}})
    return _LINK.sub(r'href="\1.html"', text)


def _page(title: str, body: str) -> str:
    code = {
        scheme: HtmlFormatter(style=style).get_style_defs(".highlight")
        for scheme, style in (("light", "friendly"), ("dark", "github-dark"))
    }
    style = _STYLE.read_text() + "".join(
        f"@media (prefers-color-scheme: {scheme}) {{\n{rules}\n}}\n" for scheme, rules in code.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
