"""What a Weaviate server holds and finds, in memory: shards, filters, sorting, BM25, cosines.

It follows the server in what our adapter could trip over: sorting ignores case, `field` values are
trimmed, a property answers only the look-ups it has an index for, limits are bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from weaviate.proto.v1 import base_pb2

MAX_RESULTS = 10_000
DEFAULT_LIMIT = 10
Operator = base_pb2.Filters


class Refused(Exception):
    """The server says no, with the HTTP status that REST would have."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Stored:
    """One object."""

    id: UUID
    properties: dict[str, Any]
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    _words: dict[str, Counter[str]] = field(default_factory=dict)

    def words(self, name: str) -> Counter[str]:
        """How often each word stands in a `whitespace` property."""
        if name not in self._words:
            self._words[name] = Counter(str(self.properties.get(name, "")).split())
        return self._words[name]


Shard = dict[UUID, Stored]


class Memory:
    """Collections by name, and the objects of each of their tenants."""

    def __init__(self) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self._shards: dict[tuple[str, str], Shard] = {}

    def define(self, definition: dict[str, Any]) -> None:
        name = definition["class"]
        if name in self.definitions:
            raise Refused(f"class name {name} already exists")
        self.definitions[name] = definition
        if not self.is_multi_tenant(name):
            self._shards[name, ""] = {}

    def undefine(self, name: str) -> None:
        self._defined(name)
        del self.definitions[name]
        self._shards = {key: held for key, held in self._shards.items() if key[0] != name}

    def is_multi_tenant(self, name: str) -> bool:
        return bool(self.definitions[name].get("multiTenancyConfig", {}).get("enabled"))

    def tenants(self, name: str) -> list[str]:
        self._defined(name)
        return sorted(tenant for owner, tenant in self._shards if owner == name)

    def add_tenant(self, name: str, tenant: str) -> None:
        self._defined(name)
        self._shards.setdefault((name, tenant), {})

    def remove_tenant(self, name: str, tenant: str) -> None:
        self._defined(name)
        self._shards.pop((name, tenant), None)

    def shard(self, name: str, tenant: str) -> Shard:
        """The objects of a tenant, or of a collection without tenants."""
        self._defined(name)
        if self.is_multi_tenant(name) != bool(tenant):
            raise Refused(
                f"class {name}: multi-tenancy and the request's tenant do not go together"
            )
        if (name, tenant) not in self._shards:
            raise Refused(f"tenant not found: {tenant!r}")
        return self._shards[name, tenant]

    def write(self, name: str, tenant: str, stored: Stored) -> None:
        """Add an object or take the place of the one with its id."""
        shard = self.shard(name, tenant)
        known = {one["name"] for one in self.definitions[name]["properties"]}
        if unknown := set(stored.properties) - known:
            raise Refused(f"no such prop: {sorted(unknown)}")
        for vector_name, vector in stored.vectors.items():
            for other in shard.values():
                there = other.vectors.get(vector_name)
                if other.id != stored.id and there is not None and there.shape != vector.shape:
                    raise Refused(f"vector lengths differ: {vector.size} and {there.size}")
        shard[stored.id] = stored

    def select(self, name: str, tenant: str, filters: base_pb2.Filters | None) -> list[Stored]:
        """The objects that a filter leaves, in order of id."""
        shard = self.shard(name, tenant)
        wanted = self._condition(name, filters) if filters is not None else lambda _: True
        return [shard[id_] for id_ in sorted(shard) if wanted(shard[id_])]

    def property(self, name: str, wanted: str) -> dict[str, Any]:
        for one in self.definitions[name]["properties"]:
            if one["name"] == wanted:
                return one
        raise Refused(f"no such prop: {wanted}")

    def bm25(self, name: str, tenant: str, query: str, properties: list[str]) -> dict[UUID, float]:
        """BM25F over `whitespace` properties, as the server computes it for one property."""
        (searched,) = properties
        if not self.property(name, searched).get("indexSearchable"):
            raise Refused(f"property {searched} has no searchable index")
        settings = self.definitions[name]["invertedIndexConfig"]["bm25"]
        k1, b = settings["k1"], settings["b"]
        words = {id_: stored.words(searched) for id_, stored in self.shard(name, tenant).items()}
        lengths = {id_: sum(counts.values()) for id_, counts in words.items()}
        mean = sum(lengths.values()) / max(len(lengths), 1)
        scores: dict[UUID, float] = {}
        for term, times in Counter(query.split()).items():
            holders = [id_ for id_, counts in words.items() if term in counts]
            idf = math.log(1 + (len(words) - len(holders) + 0.5) / (len(holders) + 0.5)) * times
            for id_ in holders:
                count = words[id_][term]
                part = count / (count + k1 * (1 - b + b * lengths[id_] / mean))
                scores[id_] = scores.get(id_, 0.0) + float(np.float32(idf * part))
        return dict(sorted(scores.items(), key=lambda item: -item[1]))

    def distances(
        self, name: str, tenant: str, vector_name: str, query: np.ndarray
    ) -> dict[UUID, float]:
        """Cosine distances of every vector of a name, nearest first."""
        found: dict[UUID, float] = {}
        for id_, stored in self.shard(name, tenant).items():
            vector = stored.vectors.get(vector_name)
            if vector is None:
                continue
            if vector.shape != query.shape:
                raise Refused(f"vector lengths don't match: {vector.size} vs {query.size}")
            norms = float(np.linalg.norm(vector) * np.linalg.norm(query))
            found[id_] = 1.0 - float(vector @ query) / norms
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def _defined(self, name: str) -> None:
        if name not in self.definitions:
            raise Refused(f"could not find class {name} in schema", 404)

    def _condition(self, name: str, filters: base_pb2.Filters) -> Callable[[Stored], bool]:
        if filters.operator in (Operator.OPERATOR_AND, Operator.OPERATOR_OR):
            parts = [self._condition(name, part) for part in filters.filters]
            combine = all if filters.operator == Operator.OPERATOR_AND else any
            return lambda stored: combine(part(stored) for part in parts)
        target = filters.target.property
        if target == "_id":
            return _id_condition(filters)
        held = self.property(name, target)
        if not held.get("indexFilterable") or held.get("tokenization") != "field":
            raise Refused(f"property {target} has no filterable index")
        return _text_condition(filters, target)


def _id_condition(filters: base_pb2.Filters) -> Callable[[Stored], bool]:
    if filters.operator == Operator.OPERATOR_EQUAL:
        wanted = {UUID(filters.value_text)}
    elif filters.operator == Operator.OPERATOR_CONTAINS_ANY:
        wanted = {UUID(text) for text in filters.value_text_array.values}
    else:
        raise Refused(f"operator {filters.operator} on ids")
    return lambda stored: stored.id in wanted


def _text_condition(filters: base_pb2.Filters, target: str) -> Callable[[Stored], bool]:
    operator = filters.operator
    if operator == Operator.OPERATOR_CONTAINS_ANY:
        wanted = {text.strip() for text in filters.value_text_array.values}
        return lambda stored: not wanted.isdisjoint(_values(stored, target))
    value = filters.value_text.strip()
    if operator == Operator.OPERATOR_EQUAL:
        return lambda stored: value in _values(stored, target)
    if operator == Operator.OPERATOR_GREATER_THAN:
        floor = value.encode()
        return lambda stored: any(text.encode() > floor for text in _values(stored, target))
    if operator == Operator.OPERATOR_LIKE and value.endswith("*") and "*" not in value[:-1]:
        return lambda stored: any(text.startswith(value[:-1]) for text in _values(stored, target))
    raise Refused(f"operator {operator} on text")


def _values(stored: Stored, name: str) -> list[str]:
    value = stored.properties.get(name, [])
    return [text.strip() for text in ([value] if isinstance(value, str) else value)]
