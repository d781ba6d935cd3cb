# One image for every process of Blipline: the worker and Flower run different commands in it.
# Only wheels are installed, so there is no compiler in it.

# Any image with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim
FROM ${BASE}

# Where torch comes from: here its CPU build; PyPI has the CUDA build, some gigabytes larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BLIPLINE_RUN_DIR=/run/blipline \
    BLIPLINE_READY_FILE=/run/blipline/ready \
    HF_HOME=/var/cache/huggingface

# The engine's socket must lie in a directory that belongs to its user alone. A fresh named volume
# takes over the owner of the directory that it is mounted on.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin blipline \
    && install -d -m 0700 -o blipline -g blipline /run/blipline /var/lib/flower \
    && install -d -o blipline -g blipline "$HF_HOME" \
    && python3 -m venv /opt/venv

WORKDIR /app
COPY requirements.txt .
# torch goes first and alone: asked for together with the others, pip may choose another build.
RUN pip install --no-cache-dir --only-binary :all: --index-url "$TORCH_INDEX" \
    "$(grep '^torch==' requirements.txt)"
RUN pip install --no-cache-dir --only-binary :all: -r requirements.txt
# Where images lie in object stores; the build argument STORES=yes installs what reads them.
ARG STORES=
COPY requirements-stores.txt .
RUN test -z "$STORES" || pip install --no-cache-dir --only-binary :all: -r requirements-stores.txt

# Readable for every user, whatever the umask of the checkout.
COPY --chmod=755 producer producer
COPY --chmod=755 config config
COPY --chmod=755 demo demo
COPY --chmod=755 worker worker

USER blipline
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
