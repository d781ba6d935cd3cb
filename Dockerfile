# One image for all processes: worker, gateway and Flower run different commands in it.
# It installs only wheels and contains no compiler.

# Any image with Python 3.11 or newer and the venv module.
ARG BASE=python:3.11-slim
FROM ${BASE}

# Index of torch: this one has the CPU build; PyPI has the CUDA build, several gigabytes larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BLIPLINE_RUN_DIR=/run/blipline \
    BLIPLINE_READY_FILE=/run/blipline/ready \
    HF_HOME=/var/cache/huggingface

# The engine's socket needs a private directory. A new named volume inherits the owner of its mount
# point.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin blipline \
    && install -d -m 0700 -o blipline -g blipline /run/blipline /var/lib/flower \
    && install -d -o blipline -g blipline "$HF_HOME" \
    && python3 -m venv /opt/venv

WORKDIR /app
COPY requirements.txt .
# Install torch first and alone: together with the others, pip may choose another build.
RUN pip install --no-cache-dir --only-binary :all: --index-url "$TORCH_INDEX" \
    "$(grep '^torch==' requirements.txt)"
RUN pip install --no-cache-dir --only-binary :all: -r requirements.txt
# The build argument STORES=yes adds the readers of object stores.
ARG STORES=
COPY requirements-stores.txt .
RUN test -z "$STORES" || pip install --no-cache-dir --only-binary :all: -r requirements-stores.txt

# Readable by every user, whatever the umask of the checkout.
COPY --chmod=755 producer producer
COPY --chmod=755 config config
COPY --chmod=755 demo demo
COPY --chmod=755 worker worker

USER blipline
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]
