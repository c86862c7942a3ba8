"""HOLA: exact hierarchical speculative decoding, adaptive retrieval, compression for edge LLMs."""

__version__ = "0.1.0"
