"""The compressor: the contract of Lo-Bi jobs; the passes are not in this version."""
