# The images that are Python alone, a target each: export, embedded (Triton for a host without a GPU), gateway, load.
# Models, keys, indexes and the hub's cache are volumes; the weights of `demo`, 10 MB, are all that comes with the package.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# Volumes take their owner from these folders when they are first used. PyTorch wants a name for its user.
RUN useradd --uid 1000 tritonclip && install -d -o tritonclip -g tritonclip /models /hub /keys /indexes /compiled
WORKDIR /app
COPY constraints.txt ./

# The two packages as wheels, so that no image keeps their build.
FROM base AS packages
COPY LICENSE ./
COPY client client
COPY examples/demo_model/demo examples/demo_model/demo
COPY model_repository model_repository
COPY samples samples
COPY server server
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./client ./server

FROM base AS export
COPY requirements/models.txt requirements/export.txt requirements/
RUN pip install --no-cache-dir -r requirements/export.txt -c constraints.txt
COPY --from=packages /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl -c constraints.txt
COPY samples samples
ENV HF_HOME=/hub
USER 1000:1000
ENTRYPOINT ["tritonclip-server"]

# On top of the exporter, for the layer with torch is 20 times the rest and both need it.
FROM export AS embedded
USER root
COPY requirements/embedded.txt requirements/
RUN pip install --no-cache-dir -r requirements/embedded.txt /wheels/*.whl -c constraints.txt
COPY deploy/docker/triton_health.py /opt/tritonclip/
# For what numba compiles: for the processor it will run on, so that cannot be done here.
ENV NUMBA_CACHE_DIR=/compiled
USER 1000:1000
ENTRYPOINT ["tritonclip-server"]

FROM base AS gateway
COPY requirements/gateway.txt requirements/openai-tokens.txt requirements/otel.txt requirements/search.txt requirements/
COPY --from=packages /wheels /wheels
RUN pip install --no-cache-dir -r requirements/gateway.txt -r requirements/openai-tokens.txt -r requirements/otel.txt \
        -r requirements/search.txt /wheels/*.whl -c constraints.txt
USER 1000:1000
ENTRYPOINT ["tritonclip-server"]

FROM base AS load
COPY requirements/load.txt requirements/
COPY --from=packages /wheels /wheels
RUN pip install --no-cache-dir -r requirements/load.txt /wheels/tritonclip-*.whl -c constraints.txt
COPY samples samples
COPY load load
USER 1000:1000
ENTRYPOINT ["locust", "-f", "load/locustfile.py"]
