import pytest

from training import evaluate, pretrain, train


@pytest.mark.parametrize("command", [train, pretrain, evaluate])
def test_help_tells_each_default_once_and_none_that_says_nothing(
    command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])  # type: ignore[attr-defined]
    told = " ".join(capsys.readouterr().out.split())
    assert "(default: auto)" in told
    for nothing in ("None", "[]", "True", "False"):
        assert f"(default: {nothing}" not in told
    options = told.split(" --")
    assert all(option.count("default:") <= 1 for option in options)
