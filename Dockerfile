# The kit as a container; docs/install.md says how it is built and called.
#
#     docker build -t fgvc .
#     docker run --rm -it --gpus all --shm-size=8g -v "$PWD/mine:/work" fgvc run
#
# PyTorch brings the CUDA libraries itself, so the base needs Python alone, and the host a driver.
ARG BASE=python:3.12-slim

# Also what .devcontainer/ builds.
FROM ${BASE} AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

FROM base AS wheel
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /source/
COPY fgvc_utils /source/fgvc_utils
COPY notebooks /source/notebooks
COPY params /source/params
COPY docs /source/docs
RUN pip wheel --no-deps --wheel-dir /dist /source

FROM base AS kit
# cuda, or cpu: smaller by about 5 GB, with PyTorch from the index that TORCH_INDEX names.
ARG DEVICE=cuda
ARG TORCH_INDEX=""
COPY requirements.txt /tmp/requirements.txt
RUN set -e; cd /tmp; \
    case "$DEVICE" in \
      cuda) cp requirements.txt wanted.txt ;; \
      cpu) \
        test -n "$TORCH_INDEX" || { \
          echo "DEVICE=cpu: name PyTorch's index of CPU builds: --build-arg TORCH_INDEX=..." >&2; exit 1; }; \
        pip install --index-url "$TORCH_INDEX" $(grep -E '^(torch|torchvision)==' requirements.txt); \
        grep -vE '^(torch|torchvision|triton|nvidia-|cuda-)' requirements.txt > wanted.txt ;; \
      *) echo "DEVICE is cuda or cpu, not $DEVICE" >&2; exit 1 ;; \
    esac; \
    pip install -r wanted.txt; \
    rm requirements.txt wanted.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl && fgvc --version
# Whoever runs it needs a home that can be written to, also with --user.
ENV HOME=/home/fgvc
RUN mkdir -m 1777 /home/fgvc
WORKDIR /work
ENTRYPOINT ["fgvc"]
CMD ["--help"]
