"""The API server of the stand-in: objects in memory behind Kubernetes' own URLs.

kmock brings the HTTP server, discovery, the reading of URLs and the form of errors and streams.
Its own emulator knows no label selectors, generated names or resource versions, which Prefect's
worker and observer live by, so the objects are kept here.
"""

import asyncio
import copy
import re
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeAlias

import kmock

Manifest: TypeAlias = dict[str, Any]
"""An object as JSON has it."""

KINDS = {
    "jobs": ("batch/v1", "Job"),
    "pods": ("v1", "Pod"),
    "configmaps": ("v1", "ConfigMap"),
    "secrets": ("v1", "Secret"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
}

UNUSED_KINDS = {
    "namespaces": ("v1", "Namespace"),
    "customresourcedefinitions": ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
}
"""The observer waits until discovery tells of these, and then never asks for them."""

SELECTOR_TERM = re.compile(r"(?P<key>[\w./-]+)(==?(?P<value>[\w.-]*))?")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What tells one object from all others."""

    kind: str
    """Plural, in small letters."""
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history that watchers read."""

    kind: str
    type: str
    """ADDED, MODIFIED or DELETED."""
    object: Manifest


class Objects:
    """All objects, and everything that has happened to them.

    A resource version is a length of the history, so a watcher goes on where it stopped.
    """

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._history: list[Change] = []
        self._changed = asyncio.Event()
        self._names = count()
        self._is_closed = False

    def create(self, kind: str, namespace: str, manifest: Manifest) -> Manifest:
        """Add an object and return it with what a server fills in.

        Raises:
            KubernetesError: 409, if there is one of that name.
        """
        one = copy.deepcopy(manifest)
        one["apiVersion"], one["kind"] = KINDS[kind]
        meta = one.setdefault("metadata", {})
        # An odd alphabet, as on a real cluster, since names must survive being cut and slugified.
        meta["name"] = meta.get("name") or f"{meta['generateName']}{next(self._names):05x}"
        meta |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
        key = Key(kind, namespace, meta["name"])
        if key in self._objects:
            raise kmock.KubernetesError(
                status=409, reason="AlreadyExists", message=f'{kind} "{key.name}" already exists'
            )
        return self._record("ADDED", key, one)

    def read(self, key: Key) -> Manifest:
        """Return an object, not to be changed.

        Raises:
            KubernetesError: 404, if it is not there.
        """
        if key not in self._objects:
            raise kmock.KubernetesError(
                status=404, reason="NotFound", message=f'{key.kind} "{key.name}" not found'
            )
        return self._objects[key]

    def update(self, key: Key, part: str, **fields: Any) -> None:
        """Set fields of an object's ``metadata`` or ``status``; of one that is gone, nothing."""
        if key in self._objects:
            one = copy.deepcopy(self._objects[key])
            one.setdefault(part, {}).update(fields)
            self._record("MODIFIED", key, one)

    def delete(self, key: Key) -> None:
        """Remove an object, if it is there."""
        if key in self._objects:
            self._record("DELETED", key, copy.deepcopy(self._objects[key]))
            del self._objects[key]

    def find(self, kind: str, namespace: str | None, selector: str = "") -> list[Manifest]:
        """Return the objects that carry the labels of a selector."""
        matches = make_matcher(namespace, selector)
        return [one for key, one in self._objects.items() if key.kind == kind and matches(one)]

    @property
    def version(self) -> str:
        """The resource version of now."""
        return str(len(self._history))

    async def watch(
        self, kind: str, namespace: str | None, selector: str, since: str | None
    ) -> AsyncIterator[Change]:
        """Yield what happens to objects, from a resource version on, until the end."""
        matches = make_matcher(namespace, selector)
        place = len(self._history) if since is None else int(since)
        while not self._is_closed:
            for change in self._history[place:]:
                if change.kind == kind and matches(change.object):
                    yield change
                place += 1
            # No await between the last change and this event, so none is missed.
            await self._changed.wait()

    def close(self) -> None:
        """End all watches."""
        self._is_closed = True
        self._wake()

    def _record(self, change: str, key: Key, one: Manifest) -> Manifest:
        one["metadata"]["resourceVersion"] = str(len(self._history) + 1)
        self._objects[key] = one
        self._history.append(Change(key.kind, change, one))
        self._wake()
        return one

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


Delete: TypeAlias = Callable[[Key, float | None, str], Coroutine[Any, Any, None]]
"""Ends an object: its key, the seconds of grace if any were said, the propagation policy."""


class ApiServer:
    """Serves objects over HTTP; what is created or deleted here is acted on by others."""

    def __init__(
        self,
        objects: Objects,
        *,
        on_create: Callable[[Key], None],
        on_delete: Delete,
        read_log: Callable[[Key], bytes],
    ) -> None:
        """Prepare the server.

        Args:
            objects: What it serves.
            on_create: Is told of every object made through it.
            on_delete: Deletes Jobs and pods, in its own time.
            read_log: What the container of a pod has printed.
        """
        self._objects = objects
        self._on_create = on_create
        self._on_delete = on_delete
        self._read_log = read_log
        self._deletions: set[asyncio.Task[None]] = set()
        self.handler = kmock.KubernetesScaffold()
        actions: Mapping[kmock.action, Callable[[kmock.Request], Any]] = {
            kmock.action.LIST: self._list,
            kmock.action.WATCH: self._watch,
            kmock.action.FETCH: self._fetch,
            kmock.action.CREATE: self._create,
            kmock.action.DELETE: self._delete,
        }
        for plural, (version, kind) in {**KINDS, **UNUSED_KINDS}.items():
            self.handler.resources[f"{version}/{plural}"] = kmock.ResourceInfo(
                kind=kind,
                singular=kind.lower(),
                namespaced=plural in KINDS,
                verbs={"create", "delete", "get", "list", "watch"},
            )
        for plural, (version, _) in KINDS.items():
            resource = kmock.resource(f"{version}/{plural}")
            for action, act in actions.items():
                # kmock's way to say what answers such a request.
                _ = self.handler[action, resource] << act

    def _list(self, request: kmock.Request) -> Manifest:
        kind = _kind(request)
        version, name = KINDS[kind]
        return {
            "apiVersion": version,
            "kind": f"{name}List",
            "metadata": {"resourceVersion": self._objects.version},
            "items": self._objects.find(kind, request.namespace, _selector(request)),
        }

    async def _watch(self, request: kmock.Request) -> AsyncIterator[Any]:
        # The header goes out before the first change.
        yield b""
        since = request.params.get("resourceVersion")
        watch = self._objects.watch(_kind(request), request.namespace, _selector(request), since)
        async for change in watch:
            yield {"type": change.type, "object": change.object}

    def _fetch(self, request: kmock.Request) -> Manifest | bytes:
        key = _key(request)
        one = self._objects.read(key)
        return self._read_log(key) if request.subresource == "log" else one

    def _create(self, request: kmock.Request) -> Manifest:
        kind = _kind(request)
        one = self._objects.create(kind, request.namespace or "default", request.data)
        self._on_create(Key(kind, one["metadata"]["namespace"], one["metadata"]["name"]))
        return one

    def _delete(self, request: kmock.Request) -> Manifest:
        key, options = _key(request), {**request.params, **(request.data or {})}
        one = self._objects.read(key)
        if key.kind not in ("jobs", "pods"):
            self._objects.delete(key)
            return one
        grace_s = options.get("gracePeriodSeconds")
        policy = options.get("propagationPolicy") or "Background"
        deletion = asyncio.ensure_future(
            self._on_delete(key, None if grace_s is None else float(grace_s), policy)
        )
        self._deletions.add(deletion)
        deletion.add_done_callback(self._deletions.discard)
        return one


def timestamp() -> str:
    """Return the time of now as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_matcher(namespace: str | None, selector: str) -> Callable[[Manifest], bool]:
    """Return whether an object is in a namespace, if one is given, and carries labels.

    Raises:
        KubernetesError: 400, if the selector says more than ``key`` and ``key=value``.
    """
    terms: dict[str, str | None] = {}
    for text in filter(None, selector.split(",")):
        term = SELECTOR_TERM.fullmatch(text)
        if term is None:
            raise kmock.KubernetesError(status=400, message=f"cannot read the selector {text!r}")
        terms[term["key"]] = term["value"]

    def matches(one: Manifest) -> bool:
        meta = one["metadata"]
        labels = meta.get("labels") or {}
        return namespace in (None, meta["namespace"]) and all(
            key in labels and value in (None, labels[key]) for key, value in terms.items()
        )

    return matches


def _kind(request: kmock.Request) -> str:
    assert request.resource is not None
    assert request.resource.plural is not None
    return request.resource.plural


def _selector(request: kmock.Request) -> str:
    return request.params.get("labelSelector", "")


def _key(request: kmock.Request) -> Key:
    assert request.namespace is not None
    assert request.name is not None
    return Key(_kind(request), request.namespace, request.name)
