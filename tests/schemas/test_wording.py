from schemas.wording import counted, did_you_mean


def test_one_is_counted_in_the_singular() -> None:
    counts = (0, 1, 2)
    assert [counted(n, "sample") for n in counts] == ["0 samples", "1 sample", "2 samples"]
    assert [counted(n, "patch", "patches") for n in counts] == ["0 patches", "1 patch", "2 patches"]


def test_only_a_similar_name_is_suggested() -> None:
    assert did_you_mean("blurr", ["noise", "blur"]) == ", did you mean 'blur'?"
    assert did_you_mean("zzz", ["noise", "blur"]) == ""
