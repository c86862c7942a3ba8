"""The front door: validates, plans retrieval, queues, and streams a request's journal back."""
