"""Documents in, passages out: chunking, lexical and dense search, and their fusion."""
