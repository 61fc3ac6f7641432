# What workers run in where an engine starts containers, such as Dataflow: Beam's SDK, this package,
# and the versions that decide bytes.
#     docker build --tag REGISTRY/vcsr:1 .
FROM apache/beam_python3.11_sdk:2.77.0
COPY constraints.txt pyproject.toml LICENSE /vcsr/
COPY schemas /vcsr/schemas
COPY transforms /vcsr/transforms
COPY pipelines /vcsr/pipelines
COPY training /vcsr/training
RUN pip install --no-cache-dir --constraint /vcsr/constraints.txt "/vcsr[pipelines,stores]"
# Parallelism is over shards and samples.
ENV OMP_NUM_THREADS=1
# The entry point stays Beam's, /opt/apache/beam/boot.
