"""Lo-Bi without a model library: plans, device profiles, the allocator and the report's form."""
