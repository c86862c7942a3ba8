"""HOLA: exact hierarchical speculative decoding, adaptive retrieval and compression for edge LLMs."""

__version__ = "0.1.0"
