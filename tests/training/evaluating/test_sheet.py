import numpy as np

from tests.training.test_show import holds
from training.drawing import enlarged
from training.evaluating.sheet import MOST_ROWS, Place, SheetRow, busiest_place, draw_sheet

NOISE = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3)).astype(np.uint8)


def row_of(number: int) -> SheetRow:
    hr, lr = NOISE[0, :32, :48], NOISE[0, :8, :12]
    return SheetRow(f"Größe {number}", "clean", 0, hr, lr, {"cubic": hr, "a long name": 255 - hr})


def test_the_crop_lies_where_detail_is() -> None:
    hr = np.full((3, 400, 512, 3), 128, np.uint8)
    hr[:, 80:336, 200:456] = NOISE
    place = busiest_place(hr)
    assert place.frame == 1 and (place.height, place.width) == (128, 128)
    assert place.top % 4 == place.left % 4 == 0
    assert place.top >= 80 and place.top + 128 <= 336
    assert place.left >= 200 and place.left + 128 <= 456


def test_small_pictures_are_shown_whole() -> None:
    assert busiest_place(NOISE[:, :36, :60]) == Place(0, 0, 0, 36, 60)


def test_crops_of_lr_lie_under_those_of_hr() -> None:
    lr = NOISE[:, ::4, ::4]
    place = Place(0, 16, 32, 64, 128)
    assert np.array_equal(place.cut(lr, 4), lr[0, 4:20, 8:40])


def test_the_sheet_holds_every_picture() -> None:
    sheet = np.array(draw_sheet([row_of(0), row_of(1)], ["cubic", "a long name"]))
    row = row_of(0)
    for picture in (row.hr, enlarged(row.lr, 4), 255 - row.hr):
        assert holds(sheet, picture)


def test_long_sheets_end() -> None:
    whole = draw_sheet([row_of(n) for n in range(MOST_ROWS)], ["cubic"])
    cut = draw_sheet([row_of(n) for n in range(MOST_ROWS + 9)], ["cubic"])
    assert cut.height < whole.height + 40
