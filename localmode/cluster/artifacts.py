"""The upload of the model and the output of all hosts at the end of an attempt."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from localmode.cluster.host import Host
from localmode.core.runners import OPT_ML
from localmode.s3.storage import Storage, parse_uri

_MAX_STEPS = 1000  # from one directory to the next, after which a link counts as circular


def merge(trees: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Return the files and directories of all trees by name, and the names that several trees have.

    SageMaker aggregates what all containers wrote into one archive, asks that names do not clash, and does not say
    what happens if they do (https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html).
    Here the first tree's file is kept.
    """
    merged: dict[str, Path] = {}
    clashes: list[str] = []
    for tree in trees:
        for path in sorted(tree.rglob("*")):
            relative = path.relative_to(tree)
            name = relative.as_posix()
            on_the_way = [merged[part] for part in map(str, (relative, *relative.parents)) if part in merged]
            if all(map(_is_directory, on_the_way)) and (_is_directory(path) or name not in merged):
                merged.setdefault(name, path)
            else:
                clashes.append(name)
    return dict(sorted(merged.items())), clashes


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def upload(
    request: dict[str, Any],
    name: str,
    hosts: Sequence[Host],
    storage: Storage,
    with_model: bool,
    check: Callable[[], None],
) -> str:
    """Upload output and model as SageMaker does; return the model's URI, empty without a model.

    `check` is called between the steps and may raise to end this; an upload that it ends leaves nothing in S3.
    Raises StorageError or OSError where an upload fails.
    """
    output = request["OutputDataConfig"]
    bucket, prefix = parse_uri(output["S3OutputPath"])
    target = "/".join(part for part in (prefix.strip("/"), name, "output") if part)
    compressed = output.get("CompressionType", "GZIP") == "GZIP"

    def upload_all(directory: str, title: str) -> str:
        files, clashes = merge([host.filesystem.opt_ml / directory for host in hosts])
        if clashes:
            others = f" and {len(clashes) - 1} more" if len(clashes) > 1 else ""
            hosts[0].log(f"localmode: several hosts wrote {directory}/{clashes[0]}{others}; the first host's is kept")
        if not compressed:
            files, lost = _follow_links(files, directory)
            for name in lost:
                link = f"{directory}/{name}"
                hosts[0].log(f"localmode: {link} is not uploaded: it is a link to no file in {OPT_ML}/{directory}")
            return _upload_files(files, storage, bucket, f"{target}/{title}", check)
        archive = hosts[0].filesystem.root / "tmp" / "upload.tar.gz"
        return _upload_archive(files, archive, storage, bucket, f"{target}/{title}.tar.gz", check)

    outputs = [host.filesystem.opt_ml / "output" / "data" for host in hosts]
    if any(path.is_dir() and any(path.iterdir()) for path in outputs):  # a script may have removed it
        upload_all("output/data", "output")
    return upload_all("model", "model") if with_model else ""


def _follow_links(files: dict[str, Path], directory: str) -> tuple[dict[str, Path], list[str]]:
    """Replace links in `/opt/ml/DIRECTORY` by the files they lead to; return the files, and links that lead to none."""
    found = {name: _followed(path, directory, name) if path.is_symlink() else path for name, path in files.items()}
    return (
        {name: path for name, path in found.items() if path is not None},
        [name for name, path in found.items() if path is None],
    )


def _followed(link: Path, directory: str, name: str) -> Path | None:
    """Return the file in `/opt/ml/DIRECTORY` that a link leads to, where /opt/ml is that of the container; or None."""
    opt_ml = link.parents[len(Path(directory, name).parts) - 1].resolve()
    path, ahead = opt_ml, [*reversed(Path(directory, name).parts)]
    for _ in range(_MAX_STEPS):
        if not ahead:
            return path if path.is_relative_to(opt_ml / directory) and path.is_file() else None
        step = path / ahead.pop()
        if step.name == "..":
            path = path.parent
        elif step.is_symlink():
            target = step.readlink()
            if target.is_relative_to(OPT_ML):
                path, target = opt_ml, target.relative_to(OPT_ML)
            ahead += reversed(target.parts)
        else:
            path = step
    return None  # a circular link


def _upload_files(files: dict[str, Path], storage: Storage, bucket: str, prefix: str, check: Callable[[], None]) -> str:
    for name, path in files.items():
        if path.is_file():
            storage.put_file(bucket, f"{prefix}/{name}", path, check)
    return f"s3://{bucket}/{prefix}/"


def _upload_archive(
    files: dict[str, Path], archive: Path, storage: Storage, bucket: str, key: str, check: Callable[[], None]
) -> str:
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for name, path in files.items():
            check()
            tar.add(path, arcname=name, recursive=False)
    storage.put_file(bucket, key, archive, check)
    return f"s3://{bucket}/{key}"
