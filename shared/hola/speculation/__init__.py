"""Exact hierarchical speculation: sampling, the tier ladder, sans-IO sessions, pacing."""
