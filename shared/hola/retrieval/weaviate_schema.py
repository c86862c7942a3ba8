"""The three Weaviate collections that hold ours, and how chunks and documents are written there.

PREFIXCollection is the catalog: one object per collection of a tenant, naming its *shard*.
PREFIXChunk and PREFIXDocument are multi-tenant, and a shard is a Weaviate tenant of both. A
document names its chunks in order; what no document names is not there (docs/decisions/0020).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import weaviate
from weaviate.classes.config import (
    Configure,
    DataType,
    Property,
    StopwordsPreset,
    Tokenization,
    VectorDistances,
)
from weaviate.classes.data import DataObject
from weaviate.collections.classes.internal import Object, ObjectSingleReturn

from hola.errors import StoreCorrupt
from hola.retrieval.rules import tenant_folder
from hola.retrieval.types import Chunk, ChunkedDocument, Collection, Vector

Found = Object[Any, Any] | ObjectSingleReturn[Any, Any]
VECTOR = "default"
# The embedded store's. Title, heading and text are one property: over several, Weaviate takes each
# one's best before it adds them up.
BM25_K1, BM25_B = 1.2, 0.75


@dataclass(frozen=True, slots=True)
class Names:
    """The Weaviate collections under one prefix."""

    prefix: str

    @property
    def catalog(self) -> str:
        """One object per collection of ours."""
        return f"{self.prefix}Collection"

    @property
    def documents(self) -> str:
        """One object per source: the list of its chunks."""
        return f"{self.prefix}Document"

    @property
    def chunks(self) -> str:
        """One object per distinct chunk: text, stems, vector."""
        return f"{self.prefix}Chunk"


@dataclass(frozen=True, slots=True)
class Entry:
    """A catalog entry: a collection's facts, without counts, and the shard it is kept in."""

    facts: Collection
    shard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document as it is kept: ids of its chunks and the page of each, in order."""

    source: str
    digest: str
    chunks: tuple[str, ...]
    pages: tuple[int, ...]


async def make_collections(client: weaviate.WeaviateAsyncClient, names: Names) -> None:
    """Make those of the three that are not there; the catalog last, so that it says all are."""
    for definition in (_chunks(names), _documents(names), _catalog(names)):
        if await client.collections.exists(definition["name"]):
            continue
        try:
            await client.collections.create(**definition)
        except weaviate.exceptions.UnexpectedStatusCodeError:
            if not await client.collections.exists(definition["name"]):
                raise  # else another process was faster


def _catalog(names: Names) -> dict[str, Any]:
    plain = ("name", "embedder", "shard")
    return {
        "name": names.catalog,
        "properties": [
            _key("tenant"),
            *(_kept(name, DataType.TEXT) for name in plain),
            _kept("dimensions", DataType.INT),
        ],
        "vector_config": _vectors(),
    }


def _documents(names: Names) -> dict[str, Any]:
    return {
        "name": names.documents,
        "multi_tenancy_config": _tenancy(),
        "properties": [
            _key("key"),
            _kept("source", DataType.TEXT),
            _kept("digest", DataType.TEXT),
            _key("chunks", DataType.TEXT_ARRAY),
            _kept("pages", DataType.INT_ARRAY),
        ],
        "vector_config": _vectors(),
    }


def _chunks(names: Names) -> dict[str, Any]:
    stems = Property(
        name="stems",
        data_type=DataType.TEXT,
        tokenization=Tokenization.WHITESPACE,
        index_searchable=True,
        index_filterable=False,
    )
    return {
        "name": names.chunks,
        "multi_tenancy_config": _tenancy(),
        "properties": [*(_kept(n, DataType.TEXT) for n in ("title", "heading", "text")), stems],
        "inverted_index_config": Configure.inverted_index(
            bm25_b=BM25_B, bm25_k1=BM25_K1, stopwords_preset=StopwordsPreset.NONE
        ),
        "vector_config": _vectors(),
    }


def _tenancy() -> Any:
    return Configure.multi_tenancy(
        enabled=True, auto_tenant_creation=False, auto_tenant_activation=True
    )


def _vectors() -> Any:
    """Vectors are given with an object or there are none; the server computes none."""
    return Configure.Vectors.self_provided(
        name=VECTOR,
        vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE),
    )


def _key(name: str, data_type: DataType = DataType.TEXT) -> Property:
    """Looked up as a whole."""
    return Property(
        name=name,
        data_type=data_type,
        tokenization=Tokenization.FIELD,
        index_filterable=True,
        index_searchable=False,
    )


def _kept(name: str, data_type: DataType) -> Property:
    """Given back and never looked up."""
    is_text = data_type is DataType.TEXT
    return Property(
        name=name,
        data_type=data_type,
        index_filterable=False,
        index_searchable=False if is_text else None,
    )


def catalog_id(tenant: str, name: str) -> uuid.UUID:
    """The catalog object of a tenant's collection."""
    return _digest(tenant_folder(tenant), name)


def document_id(source: str) -> uuid.UUID:
    """The object of a source within its shard."""
    return _digest("document", source)


def chunk_id(id_: str) -> uuid.UUID:
    """The object of a chunk within its shard; `chunk_of` gives the id back."""
    return uuid.UUID(hex=id_)


def chunk_of(id_: uuid.UUID) -> str:
    """The chunk id that an object's id stands for."""
    return id_.hex


def source_key(source: str) -> str:
    """Hex digits whose order is that of sources, whatever a server does about case or spaces."""
    return source.encode().hex()


def entry_properties(facts: Collection, shard: str) -> dict[str, Any]:
    """The catalog object of a collection."""
    return {
        "tenant": tenant_folder(facts.tenant),
        "name": facts.name,
        "embedder": facts.embedder,
        "dimensions": facts.dimensions,
        "shard": shard,
    }


def entry_of(found: Found, tenant: str) -> Entry:
    """The catalog entry in an object. Raises StoreCorrupt."""
    properties = _properties(found)
    facts = Collection(
        tenant=tenant,
        name=_text(properties, "name"),
        embedder=_text(properties, "embedder", or_else=""),
        dimensions=_whole(properties.get("dimensions"), "dimensions"),
    )
    return Entry(facts, _text(properties, "shard"))


def document_object(document: ChunkedDocument) -> DataObject[Any, Any]:
    """What is written for a document."""
    return DataObject(
        uuid=document_id(document.source),
        properties={
            "key": source_key(document.source),
            "source": document.source,
            "digest": document.digest,
            "chunks": [chunk.id for chunk in document.chunks],
            "pages": [chunk.page for chunk in document.chunks],
        },
    )


def document_of(found: Found) -> StoredDocument:
    """The document in an object. Raises StoreCorrupt."""
    properties = _properties(found)
    chunks, pages = properties.get("chunks") or [], properties.get("pages") or []
    if not isinstance(chunks, list) or not isinstance(pages, list) or len(chunks) != len(pages):
        raise _corrupt("chunks")
    return StoredDocument(
        source=_text(properties, "source"),
        digest=_text(properties, "digest"),
        chunks=tuple(str(chunk) for chunk in chunks),
        pages=tuple(_whole(page, "pages") for page in pages),
    )


def source_of(found: Found) -> str:
    """The source of a document's object. Raises StoreCorrupt."""
    return _text(_properties(found), "source")


def chunk_object(chunk: Chunk, stems: str, vector: Vector | None) -> DataObject[Any, Any]:
    """What is written for a chunk; its page is the documents'."""
    return DataObject(
        uuid=chunk_id(chunk.id),
        properties={
            "title": chunk.title,
            "heading": chunk.heading,
            "text": chunk.text,
            "stems": stems,
        },
        vector=None if vector is None else {VECTOR: vector.astype(float).tolist()},
    )


def chunk_in(found: Found) -> Chunk:
    """The chunk in an object, without a page. Raises StoreCorrupt."""
    properties = _properties(found)
    title, heading = (_text(properties, name, or_else="") for name in ("title", "heading"))
    return Chunk(text=_text(properties, "text"), title=title, heading=heading)


def vector_in(found: Found) -> Vector | None:
    """The vector of an object that was asked for with it."""
    given = found.vector.get(VECTOR) if found.vector else None
    return np.asarray(given, np.float32) if given else None


def _properties(found: Found) -> Mapping[str, Any]:
    return found.properties or {}


def _text(properties: Mapping[str, Any], name: str, *, or_else: str | None = None) -> str:
    value = properties.get(name, or_else)
    if not isinstance(value, str):
        raise _corrupt(name)
    return value


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise _corrupt(name)
    return int(value)


def _corrupt(name: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"an object in Weaviate has no valid {name!r}: it was not written by this version of HOLA"
    )


def _digest(*parts: str) -> uuid.UUID:
    data = "\x00".join(parts).encode()
    return uuid.UUID(bytes=hashlib.sha256(data).digest()[:16], version=5)
