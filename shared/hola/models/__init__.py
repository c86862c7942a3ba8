"""Model families on disk: manifest, digests, store."""
