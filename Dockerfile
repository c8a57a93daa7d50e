# Images for CPUs; docs/containers.md says how they are used. `--target train` (the last one) trains and does everything
# else that `runner` does; `--target serve` answers over HTTP for an export, without Paddle and MLflow.
FROM python:3.11-slim AS wheel
WORKDIR /src
COPY . .
RUN python -m pip install --no-cache-dir hatchling
RUN python -m hatchling build --target wheel --directory /dist

FROM python:3.11-slim AS serve
ENV PYTHONUNBUFFERED=1
COPY --from=wheel /dist/*.whl /dist/
RUN python -m pip install --no-cache-dir onnxruntime openvino pillow "numpy<2" pyyaml rich "hydra-core>=1.3.2,<1.4"
RUN python -m pip install --no-cache-dir --no-deps /dist/*.whl
RUN useradd --create-home --uid 1000 runner
USER runner
WORKDIR /home/runner
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=3)"]
ENTRYPOINT ["python", "-m", "runner", "serve"]
CMD ["/model", "--host", "0.0.0.0", "--port", "8080"]

FROM python:3.11-slim AS train
ENV PYTHONUNBUFFERED=1
# The kernels are compiled for the processor that runs them, at first use.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /dist/*.whl /dist/
RUN python -m pip install --no-cache-dir "$(ls /dist/*.whl)[cpu,sweep,tensorboard,openvino,remote]" psycopg2-binary boto3
RUN useradd --create-home --uid 1000 runner && mkdir /work /artifacts && chown runner /work /artifacts
USER runner
WORKDIR /work
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "runner"]
