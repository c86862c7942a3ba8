# One image for all services: `--target edge` (no torch) or `--target full` (retrieval, compression, tracing).
# syntax=docker/dockerfile:1
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
RUN python -m venv /opt/hola
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY requirements requirements
COPY shared shared
COPY services services
COPY bench bench

FROM source AS build-edge
ARG EXTRAS=edge,auth
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/hola/bin/pip install --constraint requirements/lock.txt ".[${EXTRAS}]"

FROM source AS build-full
ARG EXTRAS=edge,auth,retrieval,weaviate,compress,otel
# For CPU-only hosts: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/hola/bin/pip install --constraint requirements/lock.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]"

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 hola && useradd --uid 10001 --gid 10001 --no-create-home hola
COPY models/demo /models/demo
ENV PATH=/opt/hola/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOLA_MODELS_DIR=/models
USER 10001:10001
EXPOSE 7070 7071 7072 7073
# Asks the gRPC health service of whichever service runs here: on its plaintext health port, where it has one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, grpc; from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc as rpc; port = (os.environ.get('HOLA_HEALTH_LISTEN') or os.environ.get('HOLA_LISTEN', ':7070')).rpartition(':')[2]; status = rpc.HealthStub(grpc.insecure_channel('127.0.0.1:' + port)).Check(pb.HealthCheckRequest(), timeout=2).status; raise SystemExit(status != pb.HealthCheckResponse.SERVING)"]
CMD ["hola", "node"]

FROM runtime AS full
COPY --from=build-full /opt/hola /opt/hola

# Last, so that a build without --target makes the small one.
FROM runtime AS edge
COPY --from=build-edge /opt/hola /opt/hola
