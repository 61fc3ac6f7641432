import os
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    StandardOptions,
    TypeOptions,
    WorkerOptions,
)

from pipelines.engines import running
from pipelines.errors import UserError
from pipelines.layout import Layout
from pipelines.options import DEFAULT_RECIPE, DEMO_OUTPUT, check_apart, parse_options
from pipelines.pool import available_cores


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_options(arguments)
    return str(caught.value)


def test_without_arguments_the_demo_is_made() -> None:
    options = parse_options([])
    assert (options.inputs, options.output, options.recipe) == ([], DEMO_OUTPUT, DEFAULT_RECIPE)
    assert (options.seed, options.sources, options.plan_only) == (0, "", False)
    assert options.num_workers == available_cores()


def test_every_option_arrives() -> None:
    options = parse_options(
        [
            "--input",
            "photos",
            "--input",
            "夜/*.mp4",
            "--output",
            "out",
            "--recipe",
            "vcisr",
            "--seed",
            "7",
            "--sources",
            "list.csv",
            "--workers",
            "3",
            "--plan-only",
        ]
    )
    assert options.inputs == ["photos", "夜/*.mp4"]
    assert (options.output, options.recipe, options.seed) == ("out", "vcisr", 7)
    assert (options.sources, options.num_workers, options.plan_only) == ("list.csv", 3, True)


@pytest.mark.parametrize(
    ("mistyped", "meant"),
    [
        ("--inputs", "--input"),
        ("--ouput", "--output"),
        ("--recipes=vcisr", "--recipe"),
        ("--sead", "--seed"),
        ("--source", "--sources"),
        ("--plan_only", "--plan-only"),
        ("--worker", "--workers"),
    ],
)
def test_a_mistyped_option_of_ours_is_refused_with_what_was_meant(
    mistyped: str, meant: str
) -> None:
    assert refusal(mistyped, "x") == f"unknown option {mistyped!r}, did you mean {meant}?"


def test_ours_are_not_taken_by_their_beginning() -> None:
    assert "--sources" in refusal("--input", "a", "--output", "b", "--sourc", "c")


def test_a_mistyped_option_of_ours_is_refused_on_any_runner() -> None:
    message = refusal("--runner", "SparkRunner", "--inptu", "a")
    assert message == "unknown option '--inptu', did you mean --input?"


def test_options_of_beam_pass_through() -> None:
    options = parse_options(
        ["--direct_num_workers", "2", "--direct_running_mode=multi_processing", "--seed", "3"]
    )
    direct = options.beam.view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (2, "multi_processing")
    assert options.seed == 3


def test_options_of_a_cloud_runner_pass_through() -> None:
    options = parse_options(["--runner", "DataflowRunner", "--project", "p", "--region", "r"])
    assert options.beam.view_as(StandardOptions).runner == "DataflowRunner"
    assert options.beam.view_as(GoogleCloudOptions).project == "p"


@pytest.mark.parametrize("runner", [(), ("--runner", "DirectRunner"), ("--runner=PrismRunner",)])
def test_what_nobody_knows_is_refused_where_everything_is_known(runner: tuple[str, ...]) -> None:
    assert refusal(*runner, "--colour", "red") == "unknown option '--colour' (see --help)"
    assert refusal(*runner, "photos") == "unknown option 'photos', did you mean --input photos?"


def test_a_runner_of_its_own_may_know_more() -> None:
    options = parse_options(["--runner=FlinkRunner", "--my_cluster=here", "--seed", "2"])
    assert options.seed == 2


def test_the_local_runner_does_not_go_looking_for_another_engine() -> None:
    for arguments, expected in (([], True), (["--runner=FlinkRunner"], False)):
        types = parse_options(arguments).beam.view_as(TypeOptions)
        assert types.allow_unsafe_triggers is expected


def test_dask_goes_by_its_short_name() -> None:
    pytest.importorskip("distributed")
    options = parse_options(["--runner=DaskRunner", "--dask_client_address=tcp://here:1"]).beam
    assert options.view_as(StandardOptions).runner.endswith(".dask_runner.DaskRunner")


def test_an_engine_that_is_not_installed_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> None:
        raise ImportError("No module named 'dask'")

    monkeypatch.setattr("pipelines.engines.create_runner", missing)
    assert refusal("--runner=DaskRunner").endswith("pip install 'vcsr[dask]'")


def test_workers_are_as_quiet_as_the_command_unless_asked() -> None:
    for arguments, level in (([], "WARNING"), (["--default_sdk_harness_log_level=INFO"], "INFO")):
        workers = parse_options(arguments).beam.view_as(WorkerOptions)
        assert workers.default_sdk_harness_log_level == level


def test_what_a_runner_lacks_is_told_before_it_runs(tmp_path: Path) -> None:
    pytest.importorskip("apitools", reason="needs the extra dataflow")
    options = parse_options(["--runner=DataflowRunner", "--project=my-project"]).beam
    with (
        pytest.raises(UserError, match="Missing GCS path option: temp_location"),
        running(Layout(tmp_path), options, 1),
    ):
        pass


def test_inputs_need_an_output() -> None:
    assert refusal("--input", "photos") == "say where the dataset goes: --output FOLDER"


@pytest.mark.parametrize("number", ["0", "-3"])
def test_no_workers_are_refused(number: str) -> None:
    expected = f"--workers is {number}, and must be 1 or more"
    assert refusal(f"--workers={number}") == expected


@pytest.mark.parametrize("arguments", [["--seed", "many"], ["--workers", "1.5"], ["--output"]])
def test_values_that_are_none_end_the_command_with_its_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(arguments)
    assert caught.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_help_names_the_recipes_and_the_way_to_beam(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "cavsr" in text and "vcisr" in text and "--runner=DirectRunner" in text


def test_a_runner_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="--runner=DirectRuner cannot be used"):
        parse_options(["--runner=DirectRuner"])


@pytest.mark.parametrize("seed", ["-1", "9223372036854775808"])
def test_a_seed_that_no_table_can_hold_is_refused(seed: str) -> None:
    with pytest.raises(UserError, match=f"--seed is {seed}"):
        parse_options(["--seed", seed])


@pytest.mark.parametrize("seconds", ["0", "-1", "2.9", "nan"])
def test_a_patience_that_would_end_every_run_is_refused(seconds: str) -> None:
    with pytest.raises(UserError, match=r"--worker_timeout is .* must be 3 seconds or more"):
        parse_options([f"--worker_timeout={seconds}"])


def test_what_beam_is_told_of_s3_reaches_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "before")
    parse_options(
        ["--s3_endpoint_url=http://127.0.0.1:1", "--s3_secret_access_key=k", "--s3_region_name=r"]
    )
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "k"
    assert os.environ["AWS_REGION"] == os.environ["AWS_DEFAULT_REGION"] == "r"


@pytest.mark.parametrize(
    ("output", "text"), [("s3://b/photos/ds", "s3://b/photos"), ("gs://b", "gs://b/")]
)
def test_an_output_in_a_store_lies_in_no_input(output: str, text: str) -> None:
    with pytest.raises(UserError, match="lies in the input"):
        check_apart(output, [text])
    check_apart(f"{output}2", [f"{output}"])
