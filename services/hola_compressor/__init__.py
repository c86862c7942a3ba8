"""The compressor: Lo-Bi jobs over a queue, and the artifacts they publish into the store."""
