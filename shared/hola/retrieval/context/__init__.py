"""What of the passages a prompt gets: sentences chosen within a budget of tokens."""
