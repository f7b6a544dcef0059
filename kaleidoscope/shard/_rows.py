"""The rows of the manifest that a shard writes."""

import hashlib
import json
from dataclasses import asdict, replace
from functools import lru_cache

from kaleidoscope.augment import EncodedOutput, Root
from kaleidoscope.codecs import EncodeSpec, extension_for
from kaleidoscope.errors import KaleidoscopeError
from kaleidoscope.identity import mask_key, output_id, output_key, source_id
from kaleidoscope.manifest import Record, SourceFacts
from kaleidoscope.model import ObjectInfo, SourceLabels
from kaleidoscope.recipe import Targets
from kaleidoscope.targets import boxes_to_json
from kaleidoscope.tree import Applied, Growth, Sampled


def source_facts(info: ObjectInfo, labels: SourceLabels) -> SourceFacts:
    return SourceFacts(
        source_id=source_id(info.key),
        source_key=info.key,
        source_etag=info.etag,
        source_version_id=info.version_id,
        label=labels.label,
        attributes=labels.attributes,
        source_mask_key=labels.mask_key,
    )


def with_mask(facts: SourceFacts, mask: bytes | None) -> SourceFacts:
    if mask is None:
        return facts
    return replace(facts, source_mask_sha256=hashlib.sha256(mask).hexdigest())


def with_header(facts: SourceFacts, root: Root) -> SourceFacts:
    return replace(
        facts,
        source_sha256=root.sha256,
        source_width=root.header.width,
        source_height=root.header.height,
        source_format=root.header.format,
        source_mode=root.header.mode,
        source_conversion=root.header.conversion,
    )


def output_record(
    facts: SourceFacts, root: Root, output: EncodedOutput, targets: Targets | None
) -> Record:
    node = output.growth.node
    edges: list[Applied[Sampled]] = [root.edge, *output.growth.chain]
    height, width = output.growth.image.shape[:2]
    record = Record(
        source=facts,
        output_id=output_id(facts.source_key, node.name),
        parent_id=None if node.parent is None else output_id(facts.source_key, node.parent),
        node=node.name,
        status="ok",
        depth=node.depth,
        op=edges[-1].name,
        params=edges[-1].params,
        ops=f"[{','.join(edge.text for edge in edges)}]",
        encoding=_encoding(output.spec),
        output_key=output_key(facts.source_key, node.name, f".{extension_for(output.spec.format)}"),
        format=output.spec.format,
        width=width,
        height=height,
        size=len(output.data),
        sha256=hashlib.sha256(output.data).hexdigest(),
    )
    return record if targets is None else _with_targets(record, output.growth, targets)


def _with_targets(record: Record, growth: Growth, targets: Targets) -> Record:
    height, width = growth.image.shape[:2]
    mask, boxes = growth.targets.mask, growth.targets.boxes
    if mask is not None and targets.masks is not None:
        record = replace(
            record,
            mask_key=mask_key(targets.masks, str(record.output_key)),
            mask_size=len(mask.data),
            mask_sha256=mask.sha256,
        )
    if boxes is None or targets.boxes is None:
        return record
    kept, dropped = boxes_to_json(boxes, targets.boxes, size=(width, height))
    return replace(record, objects=kept, objects_dropped=dropped)


@lru_cache(maxsize=8)
def _encoding(spec: EncodeSpec) -> str:
    return json.dumps(asdict(spec), separators=(",", ":"))


def failed_record(facts: SourceFacts, node: str, error: Exception) -> Record:
    # What is not ours is named by its class: a MemoryError, or a defect to report.
    reason = error.reason if isinstance(error, KaleidoscopeError) else type(error).__name__
    return Record(
        source=facts,
        output_id=output_id(facts.source_key, node),
        node=node,
        status="failed",
        error_type=reason,
        error_message=str(error),
    )
