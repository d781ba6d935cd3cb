# One image for all processes: worker, gateway and Flower run different commands in it.
# It contains no compiler.

# Any image with Python 3.11 or newer and the venv module.
ARG BASE=python:3.11-slim

# torch.txt changes only with torch's version: other requirements do not install it again.
FROM ${BASE} AS torch-version
COPY requirements.txt .
RUN grep '^torch==' requirements.txt > torch.txt

FROM ${BASE} AS packages
# Index of torch: this one has the CPU build; PyPI has the CUDA build, several gigabytes larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
COPY --from=torch-version torch.txt .
# Install torch first and alone: together with the others, pip may choose another build.
RUN pip install --no-cache-dir --only-binary :all: --index-url "$TORCH_INDEX" -r torch.txt
COPY requirements.txt .
# docopt, which num2words requires, has no wheel; it is one module of pure Python.
RUN pip install --no-cache-dir --only-binary :all: --no-binary docopt -r requirements.txt
# STORES=yes adds the readers of object stores.
ARG STORES=
COPY requirements-stores.txt .
RUN test -z "$STORES" || pip install --no-cache-dir --only-binary :all: -r requirements-stores.txt
# TRACING=yes adds OpenTelemetry.
ARG TRACING=
COPY requirements-tracing.txt .
RUN test -z "$TRACING" || pip install --no-cache-dir --only-binary :all: -r requirements-tracing.txt

# Not a copy of the environment: its layers, of which torch's is the largest, stay as they are.
FROM packages
# HOME is the one directory that stays writable; libraries cache there.
ENV PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    BLIPLINE_RUN_DIR=/tmp/blipline \
    BLIPLINE_READY_FILE=/tmp/blipline/ready \
    HF_HOME=/var/cache/huggingface
# A new named volume inherits the owner of its mount point.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin blipline \
    && install -d -m 0700 -o blipline -g blipline /var/lib/flower \
    && install -d -o blipline -g blipline "$HF_HOME"
WORKDIR /app
# Readable by every user, whatever the umask of the checkout.
COPY --chmod=755 producer producer
COPY --chmod=755 config config
COPY --chmod=755 demo demo
COPY --chmod=755 worker worker
# The root file system is read-only at run time.
RUN python -m compileall -q .
# Number, not name: Kubernetes must see that it is not root.
USER 10001
# BAKE_MODEL=name stores a model of the hub in the image. A new volume at HF_HOME starts with it.
ARG BAKE_MODEL=
RUN test -z "$BAKE_MODEL" || python -m worker download "$BAKE_MODEL"
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
