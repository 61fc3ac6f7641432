"""What Dataflow would be sent: made and looked at here, without a network. Nothing is run."""

import importlib.metadata
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines import choose_engine
from pipelines.job import Job
from pipelines.steps import ProbeSources, WriteManifest, WriteShards
from schemas.manifest import Environment
from schemas.recipe_files import load_recipe

ROOT = Path(__file__).parents[2]
IMAGE = "europe-docker.pkg.dev/my-project/vcsr/vcsr:1"
LARGEST_JOB_BYTES = 20 * 2**20 // 20
"""A twentieth of what Dataflow takes."""
OPTIONS = f"""
    --runner=DataflowRunner --project=my-project --region=europe-west4
    --temp_location=gs://bucket/temp --staging_location=gs://bucket/staging
    --sdk_container_image={IMAGE} --sdk_location=container
    --number_of_worker_harness_threads=1 --resource_hints=min_ram=8GB
"""

needs_dataflow = pytest.mark.skipif(
    not importlib.util.find_spec("apitools"), reason="needs google-apitools, of the extra dataflow"
)


@pytest.fixture
def job() -> Job:
    return Job(
        output="/data/made",
        recipe=load_recipe("streaming"),
        seed=0,
        num_workers=1,
        environment=Environment(libraries={}, encoders={}),
    )


def submitted(*transforms: Any) -> Any:
    """The job as it would be sent: Beam's graph, with its environments."""
    import apache_beam as beam

    offline = ["--dry_run=True", "--no_auth", "--job_name=vcsr"]
    root = beam.Pipeline(options=choose_engine([*shlex.split(OPTIONS), *offline]))
    collection: Any = root
    for transform in transforms:
        collection = collection | transform
    result: Any = root.run()
    return result.job.proto_pipeline


@needs_dataflow
def test_the_job_names_the_image_and_what_a_worker_needs(job: Job) -> None:
    graph = submitted(WriteShards(job, 1000), WriteManifest(job))
    environments = graph.components.environments.values()
    images = {str(environment.payload, "utf-8", "replace") for environment in environments}
    assert all(IMAGE in image for image in images)
    hints = [dict(environment.resource_hints) for environment in environments]
    # One environment: what is to be fused must not be kept apart.
    assert hints == [{"beam:resources:min_ram_bytes:v1": b"8000000000"}]


@needs_dataflow
def test_the_job_does_not_grow_with_the_data(job: Job) -> None:
    few = submitted(WriteShards(job, 10), WriteManifest(job)).ByteSize()
    many = submitted(WriteShards(job, 20_000), WriteManifest(job)).ByteSize()
    assert few < 100_000 and many < LARGEST_JOB_BYTES
    a_million_sources = submitted(ProbeSources(job, 1_000_000 // 64)).ByteSize()
    assert a_million_sources < LARGEST_JOB_BYTES


# The image


def test_the_image_holds_the_tested_beam_and_the_whole_package() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    (base,) = (line.split()[1] for line in lines if line.startswith("FROM"))
    assert base == f"apache/beam_python3.11_sdk:{importlib.metadata.version('apache-beam')}"
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert copied == {"constraints.txt", "pyproject.toml", "LICENSE", *wheel}
    assert any("--constraint /vcsr/constraints.txt" in line for line in lines)
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(kept) == copied
