# Triton for a GPU host: NVIDIA's image with the packages that the Python models import. Models are mounted, not copied.
# docs/operations.md says what to check before another release is put here.
ARG TRITON_TAG=26.11-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}

COPY requirements/models.txt constraints.txt /tmp/requirements/
RUN pip install --no-cache-dir --break-system-packages --root-user-action=ignore \
        -r /tmp/requirements/models.txt -c /tmp/requirements/constraints.txt \
    && rm -r /tmp/requirements
COPY deploy/docker/start_triton deploy/docker/triton_health.py /opt/tritonclip/
COPY server/tritonclip_server/embedded/hidden_arguments.py server/tritonclip_server/embedded/repository_folders.py \
     server/tritonclip_server/embedded/triton_tracing.py /opt/tritonclip/
# For what numba compiles: for the processor it will run on, so that cannot be done here. A volume takes its owner.
RUN install -d -o 1000 -g 1000 /compiled
ENV NUMBA_CACHE_DIR=/compiled

# The image's own user triton-server.
USER 1000:1000
CMD ["/opt/tritonclip/start_triton"]
