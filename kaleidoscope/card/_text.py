"""The card as Markdown, with the front matter that Hugging Face's hub and library read."""

from collections.abc import Mapping
from typing import Any

import yaml

from kaleidoscope.card._facts import Facts
from kaleidoscope.codecs import extension_for
from kaleidoscope.identity import METADATA_KEY
from kaleidoscope.summary import format_bytes
from kaleidoscope.tree import ROOT

BEGIN = "<!-- kaleidoscope: begin; what stands between these marks is written again -->"
END = "<!-- kaleidoscope: end; what you write below stays -->"

MAX_TABLE_ROWS = 64
"""Rows of a table; the rest is counted together."""

_SIZE_CATEGORIES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def run_mark(run_id: str) -> str:
    """Return the line that says up to which run a card counts."""
    return f"<!-- kaleidoscope: run {run_id} -->"


def front_matter(facts: Facts, *, has_metadata: bool) -> str:
    """Return the YAML block that opens a card."""
    num_images = facts.counts.num_images
    document: dict[str, Any] = {
        "pretty_name": facts.uri.rstrip("/").rpartition("/")[2],
        "size_categories": [
            next((name for limit, name in _SIZE_CATEGORIES if num_images < limit), "n>10M")
        ],
        "tags": ["augmentation", "image", "kaleidoscope"],
    }
    if tasks := _tasks(facts):
        document["task_categories"] = tasks
    paths: list[str] = []
    if has_metadata:
        # Named one by one, since a class folder called test would else be taken for a split.
        paths = [METADATA_KEY, *_patterns(facts)]
    elif facts.counts.in_tars == num_images > 0 and not facts.num_outdated:
        paths = ["*.tar"]
    if paths:
        document["configs"] = [
            {"config_name": "default", "data_files": [{"split": "train", "path": paths}]}
        ]
    return f"---\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True)}---\n"


def _tasks(facts: Facts) -> list[str]:
    """Return what the data set can be trained for, in the hub's words."""
    kinds = facts.requests[-1].recipe.target_kinds
    possible = {
        "image-classification": any(facts.counts.labels),
        "image-segmentation": "masks" in kinds,
        "object-detection": "boxes" in kinds,
    }
    return [task for task, is_possible in possible.items() if is_possible]


def _patterns(facts: Facts) -> list[str]:
    """Return what matches the outputs' names."""
    formats = (name for name in facts.counts.formats if name)
    return [f"**/*.{extension_for(name)}" for name in formats]  # type: ignore[arg-type] # codecs'.


def body(facts: Facts, *, has_metadata: bool, sheet_key: str | None) -> str:
    """Return what stands between the marks, marks included."""
    sections = (
        _summary(facts),
        _samples(facts, sheet_key),
        _counts(facts),
        _failures(facts),
        _loading(facts, has_metadata=has_metadata),
        _origin(facts),
    )
    text = "\n\n".join(section for section in sections if section)
    return f"{BEGIN}\n{run_mark(facts.requests[-1].run_id)}\n\n{text}\n\n{END}\n"


def _summary(facts: Facts) -> str:
    counts, newest = facts.counts, facts.requests[-1]
    size = format_bytes(counts.size)
    return (
        f"# {facts.uri.rstrip('/').rpartition('/')[2]}\n\n"
        f"{counts.num_images:,} images ({size}) that Kaleidoscope made of the photographs in "
        f"{code(newest.source)}, up to {newest.recipe.num_nodes:,} of each. The manifest under "
        "`_kaleidoscope/` says of every image which source, which transforms and which parameters "
        "made it.\n\n"
        "Images of one source are alike: split by `source_id`, never by image, or what a "
        "validation measures has leaked from training."
    )


def _samples(facts: Facts, sheet_key: str | None) -> str:
    if sheet_key is None:
        return ""
    lines = [f"![Some images of each class]({sheet_key})", ""]
    for row in facts.samples:
        if row:
            nodes = ", ".join(
                f"[{shown.node}]({_link(shown.output_key)})"
                if shown.place[1] is None
                else shown.node
                for shown in row
            )
            lines.append(
                f"- {cell(row[0].label or 'no label')}, {code(row[0].source_key)}: {nodes}"
            )
    return "\n".join(["## Samples", "", *lines])


def _counts(facts: Facts) -> str:
    counts = facts.counts
    by_split = counts.splits if set(counts.splits) - {""} else {}
    tables = [
        _table("label", counts.labels, missing="(no label)"),
        _table("split", by_split, missing="(no split)"),
        _table("node", dict(sorted(counts.nodes.items(), key=_by_depth)), missing=""),
    ]
    return "\n\n".join(["## Counts", *(table for table in tables if table)])


def _by_depth(node: tuple[str, int]) -> tuple[bool, int, str]:
    name = node[0]
    return name != ROOT, len(name), name


def _table(name: str, counts: Mapping[str, int], *, missing: str) -> str:
    if not counts:
        return ""
    shown = list(counts.items())[:MAX_TABLE_ROWS]
    lines = [f"| {name} | images |", "|---|---:|"]
    lines += [f"| {cell(value or missing)} | {count:,} |" for value, count in shown]
    if more := len(counts) - len(shown):
        rest = sum(counts.values()) - sum(count for _, count in shown)
        lines.append(f"| {more:,} more | {rest:,} |")
    return "\n".join(lines)


def _failures(facts: Facts) -> str:
    if not facts.failures:
        return "## Failures\n\nNone: every source was read."
    lines = [f"| {cell(reason)} | {count:,} |" for reason, count in facts.failures.items()]
    examples = [f"- {code(key)}: {cell(message)}" for key, message in facts.failed_examples]
    return "\n".join(
        ["## Failures", "", "| reason | sources |", "|---|---:|", *lines, "", *examples]
    )


def _loading(facts: Facts, *, has_metadata: bool) -> str:
    in_tars = facts.counts.in_tars > 0
    snippets = loading_snippets(
        facts.uri,
        in_tars=in_tars,
        has_metadata=has_metadata,
        has_targets=bool(facts.requests[-1].recipe.target_kinds),
    )
    warning = (
        f"The tars also hold {facts.num_outdated:,} images that are no longer of the data set, of "
        "sources that were taken out or changed. The code below passes them over; what reads tars "
        "without the manifest, as `load_dataset` of this folder does, takes them too.\n\n"
    )
    return "## Loading\n\n" + (warning if facts.num_outdated else "") + snippets


def loading_snippets(uri: str, *, in_tars: bool, has_metadata: bool, has_targets: bool) -> str:
    """Return in Markdown how a data set is loaded, a snippet for each library.

    Args:
        uri: The destination.
        in_tars: Whether images are members of tars.
        has_metadata: Whether Hugging Face's table lies beside the images.
        has_targets: Whether images have masks or boxes.
    """
    parts = [
        _SPLIT.format(uri=uri),
        _snippet("PyTorch (`kaleidoscope[torch]`)", _TORCH, uri),
        _snippet("OpenCV", _PLAIN, uri),
    ]
    if has_targets:
        parts.insert(1, _snippet("PyTorch, with masks and boxes", _TARGETS, uri))
    if in_tars:
        parts.append(_snippet("WebDataset (`kaleidoscope[webdataset]`)", _WEBDATASET, uri))
    parts.append(_snippet("Hugging Face (`kaleidoscope[huggingface]`)", _STREAM, uri))
    if has_metadata:
        parts.append(_HUGGING_FACE.format(download=_download(uri)))
    return "\n\n".join(parts)


def _snippet(title: str, text: str, uri: str) -> str:
    return f"{title}:\n\n```python\n{text.format(uri=uri)}```"


def _download(uri: str) -> str:
    if not uri.startswith("s3://"):
        return f'folder = "{uri}"\n'
    return f'# kaleidoscope download {uri} data\nfolder = "data"\n'


_SPLIT = """\
```python
import kaleidoscope as kd

uri = "{uri}"
rows = kd.Lineage.open(uri).split(train=0.8, val=0.1, test=0.1, seed=0)  # No source in two.
```"""

_TORCH = """\
from torch.utils.data import DataLoader
from kaleidoscope.loaders.torch import ImageDataset

train = ImageDataset(uri, rows, split="train")  # transform= takes (3, H, W) uint8, RGB
for images, labels in DataLoader(train, batch_size=64, shuffle=True, num_workers=2):
    ...
"""

_TARGETS = """\
from kaleidoscope.loaders.torch import TargetDataset

train = TargetDataset(uri, rows, split="train")
for image, target in train:  # target has "mask", or "boxes" and "labels", or all of them
    ...
"""

_PLAIN = """\
from kaleidoscope.loaders import iter_images

for image, row in iter_images(uri, rows, split="train"):  # (H, W, 3) uint8, BGR
    print(row.label, row.node)
"""

_WEBDATASET = """\
from kaleidoscope.loaders.webdataset import tar_images

for image, label in tar_images(uri, rows, split="train"):
    ...
"""

_STREAM = """\
from kaleidoscope.loaders.huggingface import image_dataset

for example in image_dataset(uri, rows, split="train"):  # streamed, nothing is copied
    print(example["image"], example["label"])
"""

_HUGGING_FACE = """\
Hugging Face `datasets` alone, from a folder:

```python
from datasets import load_dataset

{download}table = f"{{folder}}/metadata.parquet"  # filters= of load_dataset choose rows of it
images = load_dataset("imagefolder", data_files=table, split="train")
```"""


def _origin(facts: Facts) -> str:
    newest = facts.requests[-1]
    lines = ["| run | sources | failed | images | Kaleidoscope | OpenCV | NumPy |"]
    lines.append("|---|---:|---:|---:|---|---|---|")
    pairs = list(zip(facts.requests, facts.reports, strict=True))[-MAX_TABLE_ROWS:]
    for request, report in pairs:
        versions = request.versions
        lines.append(
            f"| {request.run_id} | {report.num_sources:,} | {report.num_failed:,} | "
            f"{report.num_outputs:,} | {versions.kaleidoscope} | {versions.opencv} | "
            f"{versions.numpy} |"
        )
    recipe = newest.recipe
    return "\n".join(
        [
            "## How it was made",
            "",
            *lines,
            "",
            f"Recipe `{recipe.digest}`, seed {recipe.seed}:",
            "",
            "```yaml",
            recipe.to_yaml().rstrip(),
            "```",
        ]
    )


def cell(text: str) -> str:
    """Keep a text from ending its cell or becoming markup."""
    words = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in words)


def code(text: str) -> str:
    """Show a text as it is."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _link(key: str) -> str:
    return "<" + key.replace("<", "%3C").replace(">", "%3E") + ">"
