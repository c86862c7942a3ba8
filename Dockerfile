# syntax=docker/dockerfile:1
# The images of HOLA, for amd64 and arm64: docker build --target edge .
#   edge          drafter and router: no torch, no hub client
#   router        edge with the document index and the Weaviate client
#   verifier-cpu  verifier on onnxruntime's CPU provider
#   verifier-gpu  verifier on CUDA 13 (several GB)
#   compressor    Lo-Bi jobs: torch for CPU, transformers (2 GB)
#   models        edge with the demo family in /models, to be copied into a volume
# No image but `models` holds weights: they come in by the volume /models.

# python:3.12.14-slim-bookworm, the index of all its platforms. Any Debian with Python 3.11 or newer and venv will do.
ARG BASE_IMAGE=docker.io/library/python@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY requirements requirements
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/build && \
    /opt/build/bin/pip install --disable-pip-version-check --require-hashes -r requirements/build.txt

FROM build AS wheel
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY shared shared
COPY services services
COPY bench bench
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM build AS install-edge
COPY --from=wheel /wheels /wheels
RUN --mount=type=cache,target=/root/.cache/pip requirements/install edge /wheels

FROM build AS install-router
COPY --from=wheel /wheels /wheels
RUN --mount=type=cache,target=/root/.cache/pip requirements/install router /wheels

FROM build AS install-verifier-cpu
COPY --from=wheel /wheels /wheels
RUN --mount=type=cache,target=/root/.cache/pip requirements/install verifier-cpu /wheels

FROM build AS install-verifier-gpu
COPY --from=wheel /wheels /wheels
RUN --mount=type=cache,target=/root/.cache/pip requirements/install verifier-gpu /wheels

FROM build AS install-compressor
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=wheel /wheels /wheels
RUN --mount=type=cache,target=/root/.cache/pip requirements/install compressor /wheels

# No command runs in what follows: these images hold nothing but files, and are not made by root at run time.
FROM ${BASE_IMAGE} AS runtime
# HOLA_OFFLINE: nothing is fetched from a model hub, whatever is asked for.
ENV PATH=/opt/hola/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOLA_OFFLINE=1 \
    HOLA_MODELS_DIR=/models
USER 10001:10001
WORKDIR /tmp
EXPOSE 7070 7071 7072 7073 7080 9100
# Asks the gRPC health service of whichever service runs here: on its plaintext health port, where it has one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, grpc; from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc as rpc; port = (os.environ.get('HOLA_HEALTH_LISTEN') or os.environ.get('HOLA_LISTEN', ':7070')).rpartition(':')[2]; status = rpc.HealthStub(grpc.insecure_channel('127.0.0.1:' + port)).Check(pb.HealthCheckRequest(), timeout=2).status; raise SystemExit(status != pb.HealthCheckResponse.SERVING)"]

FROM runtime AS router
COPY --from=install-router /opt/hola /opt/hola
CMD ["hola-router"]

FROM runtime AS verifier-cpu
COPY --from=install-verifier-cpu /opt/hola /opt/hola
CMD ["hola-verifier"]

FROM runtime AS verifier-gpu
COPY --from=install-verifier-gpu /opt/hola /opt/hola
ENV LD_LIBRARY_PATH=/opt/hola/cuda
CMD ["hola-verifier"]

FROM runtime AS compressor
COPY --from=install-compressor /opt/hola /opt/hola
CMD ["hola-compressor"]

FROM runtime AS models
COPY --from=install-edge /opt/hola /opt/hola
COPY models/demo /models/demo
CMD ["hola", "node"]

# Last, so that a build without --target makes the small one.
FROM runtime AS edge
COPY --from=install-edge /opt/hola /opt/hola
CMD ["hola-drafter"]
