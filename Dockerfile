# docker build -t edgekit .   then   docker run --rm -v "$PWD:/project" edgekit build --target rpi4
FROM python:3.11-slim-bookworm

# Address of a package index with CPU-only builds of torch; without one torch comes with CUDA.
ARG EDGEKIT_TORCH_INDEX=
WORKDIR /opt/edgekit

# Dependencies first: this layer is built again only when one of these files changes.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY scripts/ scripts/
RUN PIP_NO_CACHE_DIR=1 scripts/setup.sh && rm -rf /var/lib/apt/lists/*
COPY . .

RUN useradd --create-home edgekit && install -d -o edgekit /project
ENV PATH=/opt/edgekit/.venv/bin:$PATH
USER edgekit
WORKDIR /project
ENTRYPOINT ["edgekit"]
