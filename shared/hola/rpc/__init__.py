"""gRPC servers, interceptors, channels and the clients of the services."""
