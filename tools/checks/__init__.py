"""What `make dist-check`, `k8s-check`, `images-check`, `compose-check` and `arm64-check` run."""
