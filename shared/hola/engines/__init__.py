"""Decoder engines behind one protocol, each loaded only when asked for."""
