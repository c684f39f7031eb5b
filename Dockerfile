# SPDX-License-Identifier: Apache-2.0
# docker build -t e2-llm .                        for GPUs, on NVIDIA's PyTorch image
# docker build --target cpu -t e2-llm:cpu .       without GPUs, on a plain Python image
#
# docker run --rm e2-llm:cpu                      the fast tests; in either image, without --gpus
# docker run --rm -it --gpus all --ipc=host --ulimit memlock=-1 -v "$PWD/runs:/workspace/runs" e2-llm bash

# 26.02: Python 3.12 and the torch that this project is tested with (2.11.0a0; the next images have 2.12),
# with Transformer Engine, flash-attn and apex. Newer ones: --build-arg NVIDIA_IMAGE=...
ARG NVIDIA_IMAGE=nvcr.io/nvidia/pytorch:26.02-py3
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git iproute2 make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /workspace/e2-llm
COPY constraints.txt ./
# torch brings CUDA's libraries, about 5 GB. An index that has torch 2.11.0+cpu, given as CPU_WHEELS, spares
# them: then nothing needs their pins.
ARG CPU_WHEELS=
RUN if [ -n "$CPU_WHEELS" ]; then sed -i -E '/^(nvidia-|cuda-|triton)/d' constraints.txt; fi \
    && python -m pip install --no-cache-dir --disable-pip-version-check \
        ${CPU_WHEELS:+--extra-index-url "$CPU_WHEELS"} -r constraints.txt
COPY . .
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e .
CMD ["python", "-m", "pytest", "-m", "not slow"]

# hadolint ignore=DL3006
FROM ${NVIDIA_IMAGE} AS gpu
WORKDIR /workspace/e2-llm
COPY constraints.txt ./
# The image's torch, Transformer Engine, flash-attn and apex are built for each other: whatever they were compiled
# against stays as it is (KEEP), all else gets this project's versions. --no-deps, because
# constraints.txt names every package already, and a resolver would fetch another torch: 2.11.0a0 counts as older
# than 2.11. PIP_CONSTRAINT is the image's own list of versions, which contradicts ours.
ARG KEEP="torch|triton|numpy|setuptools|packaging|nvidia-[a-z0-9-]+|cuda-[a-z]+"
# The build fails if the installation touched the stack, or if a part of it is not there at all.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN stack='^(torch|triton|numpy|transformer[_-]engine|flash[_-]attn|apex)[^a-z]' \
    && python -m pip list --format=freeze | grep -iE "$stack" | sort > /tmp/before \
    && python -c 'import importlib.util as u; gone = [n for n in ("transformer_engine", "flash_attn", "apex") if not u.find_spec(n)]; assert not gone, gone' \
    && grep -vE "^($KEEP)==" constraints.txt > /tmp/pins.txt \
    && PIP_CONSTRAINT='' python -m pip install --no-cache-dir --disable-pip-version-check --no-deps -r /tmp/pins.txt \
    && python -m pip list --format=freeze | grep -iE "$stack" | sort > /tmp/after \
    && diff /tmp/before /tmp/after \
    && python -c 'import torch, transformers, megatron.core'
COPY . .
RUN PIP_CONSTRAINT='' python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation -e .
CMD ["python", "-m", "pytest", "-m", "not slow"]
