"""Whether a question needs retrieval, and how deep: signals, a small fitted model, a decision."""
