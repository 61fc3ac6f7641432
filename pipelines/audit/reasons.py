"""Why a sample that was made again may differ: libraries, encoders, host, fields of the record."""

from collections.abc import Mapping

from pipelines.audit.compare import Stored, Verdict, record_differences, verdict_of
from pipelines.audit.environment import differences, host_differences
from pipelines.audit.material import RemakeTask
from pipelines.environment import describe_host
from pipelines.job import Job, library_versions
from schemas.manifest import Environment
from schemas.sample import HR_MEMBER, JSON_MEMBER
from transforms.degrade import MadeSample

_MOST_FIELDS = 5


def reasons(
    task: RemakeTask, made: MadeSample, stored: Stored, members: Mapping[str, Verdict]
) -> list[str]:
    """A line each; empty if nothing differs."""
    if verdict_of(members) is Verdict.BYTES:
        return []
    known = [*other_environment(task, made), *_other_host(task)]
    known = known or ["no known reason: please report it"]
    if members[HR_MEMBER] is Verdict.DIFFERENT and not stored.members:
        known.append(f"{HR_MEMBER}: its pixels are not at hand to be compared, only its checksum")
    if members[JSON_MEMBER] is not Verdict.BYTES and JSON_MEMBER in stored.members:
        fields = record_differences(made.sample, stored.members[JSON_MEMBER])
        others = f" and {len(fields) - _MOST_FIELDS} more" if len(fields) > _MOST_FIELDS else ""
        known.append(f"the record differs in {', '.join(fields[:_MOST_FIELDS])}{others}")
    return known


def other_environment(task: RemakeTask, made: MadeSample) -> list[str]:
    """Libraries and encoders that are not those that the dataset was made with."""
    found = {stream.codec: stream.encoder_build for stream in made.sample.streams}
    builds = {codec: build for codec, build in task.environment.encoders.items() if codec in found}
    here = {codec: found[codec] for codec in builds}
    made_with = Environment(libraries=task.environment.libraries, encoders=builds)
    there = differences(made_with, Environment(libraries=library_versions(), encoders=here))
    return [str(difference) for difference in there]


def other_libraries(task: RemakeTask) -> list[str]:
    """Libraries that are not those that the dataset was made with."""
    made_with = Environment(libraries=task.environment.libraries, encoders={})
    here = Environment(libraries=library_versions(), encoders={})
    return [str(difference) for difference in differences(made_with, here)]


def _other_host(task: RemakeTask) -> list[str]:
    """What else is different here from where the shard was made."""
    job = Job(
        output="",
        recipe=task.work.recipe,
        seed=task.work.seed,
        num_workers=1,
        environment=task.environment,
    )
    return host_differences(task.host.facts, describe_host(job))
