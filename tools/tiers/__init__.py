"""The demo tiers: the text they learn, their training, export and evaluation."""
