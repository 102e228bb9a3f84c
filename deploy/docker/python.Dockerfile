# The images that are Python alone, a target each: export, embedded (Triton for a host without a GPU), gateway, load.
# No image holds weights: models, keys and the hub's cache are volumes, the demo checkpoint is mounted.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# Volumes take their owner from these folders when they are first used. PyTorch wants a name for its user.
RUN useradd --uid 1000 tritonclip && install -d -o tritonclip -g tritonclip /models /hub /keys /compiled
WORKDIR /app
COPY constraints.txt ./

# The client as a wheel, so that no image keeps its build.
FROM base AS client
COPY client client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ./client

FROM base AS export
COPY requirements/models.txt requirements/export.txt requirements/
RUN pip install --no-cache-dir -r requirements/export.txt -c constraints.txt
COPY model_repository model_repository
COPY samples samples
COPY export export
ENV HF_HOME=/hub
USER 1000:1000
ENTRYPOINT ["python", "-m", "export"]

# On top of the exporter, for the layer with torch is 20 times the rest and both need it.
FROM export AS embedded
USER root
COPY requirements/serve.txt requirements/
COPY --from=client /wheels /wheels
RUN pip install --no-cache-dir -r requirements/serve.txt /wheels/*.whl -c constraints.txt
COPY serve serve
COPY deploy/docker/triton_health.py /opt/tritonclip/
# For what numba compiles: for the processor it will run on, so that cannot be done here.
ENV NUMBA_CACHE_DIR=/compiled
USER 1000:1000
ENTRYPOINT ["python", "-m", "serve"]

FROM base AS gateway
COPY requirements/gateway.txt requirements/openai-tokens.txt requirements/
COPY --from=client /wheels /wheels
RUN pip install --no-cache-dir -r requirements/gateway.txt -r requirements/openai-tokens.txt /wheels/*.whl -c constraints.txt
COPY gateway gateway
USER 1000:1000
ENTRYPOINT ["python", "-m", "gateway"]

FROM base AS load
COPY requirements/load.txt requirements/
COPY --from=client /wheels /wheels
RUN pip install --no-cache-dir -r requirements/load.txt /wheels/*.whl -c constraints.txt
COPY samples samples
COPY load load
USER 1000:1000
ENTRYPOINT ["locust", "-f", "load/locustfile.py"]
