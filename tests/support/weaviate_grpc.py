"""Weaviate's gRPC service over a Memory, spoken with the messages the Python client ships."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import grpc
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

from tests.support.weaviate_memory import DEFAULT_LIMIT, MAX_RESULTS, Memory, Refused, Stored

WRITTEN_AT_MS = 1_700_000_000_000
SINGLE = base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32


class Gate:
    """What stands before and between a server's steps; see tests.support.weaviate."""

    async def enter(self, method: str, headers: dict[str, str], *, writes: bool) -> None:
        """Raise Refused or sleep before a request."""

    async def before_write(self) -> None:
        """Raise Died before an object is written or removed."""


class Died(Exception):
    """The server is gone in the middle of a request."""


class Service(weaviate_pb2_grpc.WeaviateServicer):
    """The calls that the adapter makes."""

    def __init__(self, memory: Memory, gate: Gate) -> None:
        self._memory = memory
        self._gate = gate

    async def Search(self, request, context):
        return await self._answer("Search", context, lambda: self._search(request))

    async def Aggregate(self, request, context):
        def count() -> aggregate_pb2.AggregateReply:
            held = self._memory.shard(request.collection, request.tenant)
            single = aggregate_pb2.AggregateReply.Single(objects_count=len(held))
            return aggregate_pb2.AggregateReply(single_result=single)

        return await self._answer("Aggregate", context, count)

    async def BatchObjects(self, request, context):
        async def write() -> batch_pb2.BatchObjectsReply:
            reply = batch_pb2.BatchObjectsReply()
            for index, one in enumerate(request.objects):
                await self._gate.before_write()
                try:
                    self._memory.write(one.collection, one.tenant, _stored(one))
                except Refused as refused:
                    reply.errors.add(index=index, error=str(refused))
            return reply

        return await self._answer("BatchObjects", context, write, writes=True)

    async def BatchDelete(self, request, context):
        async def remove() -> batch_delete_pb2.BatchDeleteReply:
            name, tenant = request.collection, request.tenant
            found = self._memory.select(name, tenant, request.filters)[:MAX_RESULTS]
            for one in found:
                await self._gate.before_write()
                del self._memory.shard(name, tenant)[one.id]
            return batch_delete_pb2.BatchDeleteReply(matches=len(found), successful=len(found))

        return await self._answer("BatchDelete", context, remove, writes=True)

    async def _answer(self, method, context, work, *, writes=False) -> Any:
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        try:
            await self._gate.enter(method, headers, writes=writes)
            answer = work()
            return await answer if hasattr(answer, "__await__") else answer
        except Refused as refused:
            codes = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}
            await context.abort(codes.get(refused.status, grpc.StatusCode.UNKNOWN), str(refused))
        except Died:
            await context.abort(grpc.StatusCode.ABORTED, "the server is gone")

    def _search(self, request: search_get_pb2.SearchRequest) -> search_get_pb2.SearchReply:
        name, tenant = request.collection, request.tenant
        filters = request.filters if request.HasField("filters") else None
        found = self._memory.select(name, tenant, filters)
        facts: dict[UUID, dict[str, float]] = {}
        if request.HasField("bm25_search"):
            asked = request.bm25_search
            scores = self._memory.bm25(name, tenant, asked.query, list(asked.properties))
            facts = {id_: {"score": score} for id_, score in scores.items()}
        elif request.HasField("near_vector"):
            distances = self._memory.distances(name, tenant, *_query_vector(request.near_vector))
            facts = {id_: {"distance": distance} for id_, distance in distances.items()}
        if facts or request.HasField("bm25_search") or request.HasField("near_vector"):
            left = {one.id: one for one in found}
            found = [left[id_] for id_ in facts if id_ in left]
        for sort in reversed(request.sort_by):
            (by,) = sort.path
            key = [str(one.properties.get(by, "")).lower() for one in found]
            order = sorted(range(len(found)), key=key.__getitem__, reverse=not sort.ascending)
            found = [found[index] for index in order]
        limit = request.limit or DEFAULT_LIMIT
        if request.offset + limit > MAX_RESULTS:
            raise Refused("query maximum results exceeded")
        reply = search_get_pb2.SearchReply()
        for one in found[request.offset : request.offset + limit]:
            reply.results.append(self._result(one, request, facts.get(one.id, {})))
        return reply

    def _result(
        self, one: Stored, request: search_get_pb2.SearchRequest, facts: dict[str, float]
    ) -> search_get_pb2.SearchResult:
        asked = request.properties
        names = set(asked.non_ref_properties)
        if asked.return_all_nonref_properties or not request.HasField("properties"):
            names = set(one.properties)
        values = {
            key: self._value(request.collection, key, value)
            for key, value in one.properties.items()
            if key in names
        }
        metadata = search_get_pb2.MetadataResult(id=str(one.id), id_as_bytes=one.id.bytes)
        for key, value in facts.items():
            setattr(metadata, key, value)
            setattr(metadata, f"{key}_present", True)
        for moment in ("creation_time_unix", "last_update_time_unix"):
            if getattr(request.metadata, moment):
                setattr(metadata, moment, WRITTEN_AT_MS)
                setattr(metadata, f"{moment}_present", True)
        wanted = set(request.metadata.vectors)
        for key, vector in one.vectors.items():
            if request.metadata.vector or key in wanted:
                metadata.vectors.add(name=key, vector_bytes=_packed(vector), type=SINGLE)
        properties = search_get_pb2.PropertiesResult(
            target_collection=request.collection,
            non_ref_props=properties_pb2.Properties(fields=values),
        )
        return search_get_pb2.SearchResult(properties=properties, metadata=metadata)

    def _value(self, collection: str, key: str, value: Any) -> properties_pb2.Value:
        (kind,) = self._memory.property(collection, key)["dataType"]
        if kind == "text":
            return properties_pb2.Value(text_value=value)
        if kind == "int":
            return properties_pb2.Value(int_value=int(value))
        if kind == "text[]":
            texts = properties_pb2.TextValues(values=value)
            return properties_pb2.Value(list_value=properties_pb2.ListValue(text_values=texts))
        assert kind == "int[]"
        whole = properties_pb2.IntValues(values=struct.pack(f"<{len(value)}q", *value))
        return properties_pb2.Value(list_value=properties_pb2.ListValue(int_values=whole))


def _stored(one: batch_pb2.BatchObject) -> Stored:
    """The object in a batch's message."""
    given = one.properties
    properties: dict[str, Any] = dict(given.non_ref_properties)
    for lists in (given.text_array_properties, given.int_array_properties):
        properties |= {array.prop_name: list(array.values) for array in lists}
    properties |= {key: [] for key in given.empty_list_props}
    vectors = {vector.name: _unpacked(vector.vector_bytes) for vector in one.vectors}
    return Stored(UUID(one.uuid), properties, vectors)


def _query_vector(near: Any) -> tuple[str, np.ndarray]:
    (name,) = near.targets.target_vectors or near.target_vectors
    (vector,) = near.vectors
    return name, _unpacked(vector.vector_bytes)


def _packed(vector: np.ndarray) -> bytes:
    return vector.astype("<f4").tobytes()


def _unpacked(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4").astype(np.float32)
