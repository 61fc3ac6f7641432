from pathlib import Path

from training.curves import LOG_NAME, Curves


class Losses(Curves):
    """Of a run with one value a step."""

    columns = ("loss", "seconds")


def rows(run: Path) -> list[str]:
    return (run / LOG_NAME).read_text().splitlines()


def test_rows_of_a_run_that_goes_on_are_kept_up_to_its_checkpoint(tmp_path: Path) -> None:
    # The last row was cut by a kill: it was that of step 30.
    (tmp_path / LOG_NAME).write_text("step,loss,seconds\n10,0.5,1.0\n20,0.4,2.0\n3")
    with Losses(tmp_path, steps=40, start=10, resume=True) as curves:
        curves.steps_taken("training", 20, {"loss": 0.25}, "loss 0.25")
    assert rows(tmp_path)[:2] == ["step,loss,seconds", "10,0.5,1.0"]
    assert rows(tmp_path)[2].startswith("20,0.25,")
    assert len(rows(tmp_path)) == 3


def test_a_new_run_has_no_rows_of_another(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).write_text("step,loss,seconds\n0,0.5,1.0\n")
    with Losses(tmp_path, steps=40, start=0, resume=False):
        assert rows(tmp_path) == ["step,loss,seconds"]
