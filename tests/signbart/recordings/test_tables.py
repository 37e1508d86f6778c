"""Long and wide tables: the order of frames, what tells clips apart, empty cells, sizes."""

from pathlib import Path

import numpy as np
import pytest

from signbart.errors import ClipError
from signbart.recordings.forms import read_file
from signbart.recordings.reading import read_clips
from signbart.recordings.table_parts import CLIPS

pyarrow = pytest.importorskip("pyarrow", reason="tables are read with pyarrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="tables are read with pyarrow")

WIDE = [f"{axis}_pose_{at}" for at in range(33) for axis in "xy"]
pytestmark = pytest.mark.filterwarnings("error")


def points(frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 0.9, (frames, 33, 2)).astype(np.float32)


def long_rows(landmarks: np.ndarray, name=str, **more) -> list[dict]:
    """A row a landmark; `name` calls the frames."""
    return [
        {"frame": name(at), "type": "pose", "landmark_index": index, "x": float(x), "y": float(y),
         **more}
        for at, frame in enumerate(landmarks)
        for index, (x, y) in enumerate(frame)
    ]  # fmt: skip


def wide_rows(landmarks: np.ndarray, name=str, **more) -> list[dict]:
    """A row a frame."""
    return [
        {"frame": name(at), **more, **dict(zip(WIDE, map(float, frame.ravel()), strict=True))}
        for at, frame in enumerate(landmarks)
    ]


ROWS = {"long": long_rows, "wide": wide_rows}


def write_csv(path: Path, rows: list[dict], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    lines = [list(rows[0])] + [
        ["" if value is None else str(value) for value in row.values()] for row in rows
    ]
    path.write_bytes(("\n".join(delimiter.join(line) for line in lines) + "\n").encode(encoding))
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    parquet.write_table(
        pyarrow.table({name: [row[name] for row in rows] for name in rows[0]}), path
    )
    return path


def found(path: Path) -> list:
    return list(read_file(path).recordings)


def pose(recording) -> np.ndarray:
    assert not isinstance(recording, ClipError), recording
    return recording.points[:, :33, :2]


def fault(path: Path) -> str:
    (error,) = found(path)
    assert isinstance(error, ClipError)
    return str(error)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
@pytest.mark.parametrize("form", ROWS)
def test_frames_named_by_text_keep_the_order_of_their_numbers(tmp_path, form, write):
    landmarks = points(12)
    for at, name in enumerate(("img_{}.jpg", "S1-{:03d}", "{}", "0{}", "{}.25", "{}.0")):
        rows = ROWS[form](landmarks, name.format, sign="hello")
        path = write(tmp_path / f"{at}", rows[::-1])
        np.testing.assert_array_equal(pose(found(path)[0]), landmarks)


AMBIGUOUS = {
    "two shapes": (["img_1", "img_2", "hand_3"], r"in different ways, 'img_1' and 'hand_3'"),
    "a number with text": (["0", "1", "two"], r"in different ways, '0' and 'two'"),
    "zeros in front": (["img_1", "img_01", "img_2"], r"'img_1' and 'img_01'"),
    "fractions": (["t0.5", "t0.25", "t0.75"], r"'t0.5' and 't0.25'"),
    "many digits": (["f9999999999", "f10000000000"], r"'f9999999999' and 'f10000000000'"),
}


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("case", AMBIGUOUS)
def test_frames_whose_order_nothing_says_are_refused(tmp_path, form, case):
    names, complaint = AMBIGUOUS[case]
    path = write_csv(tmp_path / "a.csv", ROWS[form](points(len(names)), names.__getitem__))
    with pytest.raises(ClipError, match=rf"a\.csv: column 'frame' .*{complaint}.*number them"):
        raise found(path)[0]


def test_a_frame_without_a_name_is_refused(tmp_path):
    for form, rows in ROWS.items():
        path = write_csv(tmp_path / f"{form}.csv", rows(points(3), ["0", "", "2"].__getitem__))
        with pytest.raises(ClipError, match=rf"{form}\.csv, row \d+: column 'frame' is empty"):
            raise found(path)[0]


def test_clips_told_apart_by_an_unknown_column_are_not_merged(tmp_path):
    for form, rows in ROWS.items():
        both = [*rows(points(6), sample="s1"), *rows(points(6, 1), sample="s2")]
        said = fault(write_csv(tmp_path / f"{form}.csv", both))
        assert said.startswith(f"{tmp_path / form}.csv: frame '0'")
        assert ", ".join(CLIPS) in said
        assert f"rows 1 and {len(both) // 2 + 1}" in said
    # The same landmark of one frame, of all that there is.
    assert "'pose' 0" in fault(tmp_path / "long.csv")


def test_a_frame_twice_in_one_of_several_clips_leaves_the_others(tmp_path):
    for form, rows in ROWS.items():
        twice = rows(points(6), clip="a")
        path = write_csv(
            tmp_path / f"{form}.csv", [*rows(points(6, 1), clip="b"), *twice, twice[-1]]
        )
        good, bad = found(path)
        np.testing.assert_array_equal(pose(good), points(6, 1))
        assert f"{form}.csv[a]: frame '5'" in str(bad)
        assert f"rows {len(twice) * 2} and {len(twice) * 2 + 1}" in str(bad)
        assert "column 'clip'" in str(bad)


def cells(write, path: Path, rows=long_rows, **columns: list) -> list:
    """Recordings of clips c0, c1, …, the n-th of which has the n-th value of each column."""
    count = len(next(iter(columns.values())))
    table = []
    for at in range(count):
        more = {name: values[at] for name, values in columns.items()}
        table += rows(points(2, at), **{"sequence_id": f"c{at}", **more})
    return found(write(path, table))


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_an_empty_cell_says_nothing(tmp_path, write, form):
    path = tmp_path / "table"
    signs = ["hello", None, "nan", "hello"]
    clips = cells(write, path, ROWS[form], sign=signs, participant_id=[26734, 7, None, 26734])
    assert [clip.class_name for clip in clips] == ["hello", None, "nan", "hello"]
    assert [clip.signer for clip in clips] == ["26734", "7", None, "26734"]
    with pytest.raises(ClipError, match=r"table\[c1\]: says no sign"):
        read_clips(path)
    assert len(read_clips(path, skip_bad=True)) == 3


def test_columns_of_names_are_text(tmp_path):
    clips = cells(write_csv, tmp_path / "a.csv", sequence_id=["001", "01"], sign=["true", "1.0"],
                  participant_id=["001", "1e3"])  # fmt: skip
    assert [clip.name for clip in clips] == ["001", "01"]
    assert [clip.class_name for clip in clips] == ["true", "1.0"]
    assert [clip.signer for clip in clips] == ["001", "1e3"]


def test_whole_numbers_stay_whole(tmp_path):
    clips = cells(write_parquet, tmp_path / "a", sequence_id=[5.0, 6.5], sign=[1.0, None],
                  participant_id=[float("nan"), 3.0], repetition=[2.0, None])  # fmt: skip
    assert [clip.name for clip in clips] == ["5", "6.5"]
    assert [clip.class_name for clip in clips] == ["1", None]
    assert [clip.signer for clip in clips] == [None, "3"]
    assert [clip.repetition for clip in clips] == [2, None]


def test_rows_of_no_clip_are_refused_and_the_others_read(tmp_path):
    clips = cells(write_csv, tmp_path / "a.csv", wide_rows, sequence_id=["c0", None, "c2"])
    assert [clip.name for clip in clips if not isinstance(clip, ClipError)] == ["c0", "c2"]
    assert "a.csv, row 3: column 'sequence_id' is empty" in str(clips[1])


def test_a_cell_that_is_empty_in_part_of_a_clip_is_refused(tmp_path):
    rows = wide_rows(points(3), sign="hello")
    rows[1]["sign"] = None
    said = fault(write_csv(tmp_path / "a.csv", rows))
    assert "column 'sign' differs within the clip ('hello' in row 1, empty in row 2)" in said


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("delimiter", ",;\t")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings(tmp_path, form, delimiter, encoding):
    rows = ROWS[form](points(3), sign="höre", signer="1")
    path = write_csv(tmp_path / "a.tsv", rows, delimiter, encoding)
    (clip,) = found(path)
    np.testing.assert_array_equal(pose(clip), points(3))
    assert (clip.class_name, clip.signer) == ("höre", "1")


def test_other_encodings_are_named(tmp_path):
    rows = wide_rows(points(2), sign="höre")
    write_csv(tmp_path / "a.csv", rows, encoding="latin-1")
    with pytest.raises(ClipError, match=r"a\.csv: .*save it as UTF-8"):
        found(tmp_path / "a.csv")
    path = write_csv(tmp_path / "b.csv", rows, encoding="utf-16")
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(ClipError, match=r"b\.csv: .*UTF-16.*save it as UTF-8"):
        found(path)


def test_a_number_that_is_none_is_shown(tmp_path):
    rows = wide_rows(points(2))
    rows[1]["x_pose_3"] = "0,5"
    said = fault(write_csv(tmp_path / "a.csv", rows, ";"))
    assert "a.csv, row 2: column 'x_pose_3' holds something that is no number, '0,5'" in said
    rows = long_rows(points(2))
    for value, shown in ((1.5, "'1.5'"), (None, "is empty")):
        rows[4]["landmark_index"] = value
        said = fault(write_csv(tmp_path / "b.csv", rows))
        assert "b.csv, row 5: column 'landmark_index' " in said and shown in said
    rows = wide_rows(points(2), width="wide", height=480)
    said = fault(write_csv(tmp_path / "c.csv", rows))
    assert "c.csv: column 'width' holds 'wide'" in said


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x_pose_0,y_pose_0,x_pose_0 ,more,more\n1,2,3,4,5\n")
    with pytest.raises(ClipError, match=r"a\.csv: column 'x_pose_0' stands twice"):
        found(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("x_pose_0,y_pose_0 ,more,more\n1,2,4,5\n1,2,4,5\n")
    assert found(tmp_path / "b.csv")[0].points.shape == (2, 1, 2)


# Never freed: what is read from a pool may be given back to it at any time.
POOLS = []


@pytest.fixture
def pool():
    """Counts what pyarrow takes."""
    before = pyarrow.default_memory_pool()
    POOLS.append(pyarrow.proxy_memory_pool(before))
    pyarrow.set_memory_pool(POOLS[-1])
    yield POOLS[-1]
    pyarrow.set_memory_pool(before)


def write_with(path: Path, name: str, column) -> Path:
    """A small long table with a further column, or another one in the place of its own."""
    rows = long_rows(points(10))[: len(column)]
    table = pyarrow.table({key: [row[key] for row in rows] for key in rows[0]})
    table = table.drop_columns([name]) if name in table.column_names else table
    table = table.append_column(name, column)
    parquet.write_table(table, path, store_schema=False, compression="zstd")
    return path


def repeated(text: str) -> object:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 330, pyarrow.int32()), [text])


def test_columns_that_nothing_asks_for_are_not_read(tmp_path, pool):
    path = write_with(tmp_path / "a.parquet", "note", repeated("a" * (1 << 20)))
    assert path.stat().st_size < 30_000
    np.testing.assert_array_equal(pose(found(path)[0]), points(10))
    assert pool.max_memory() < 50e6


@pytest.mark.parametrize("name", ["sign", "sequence_id", "frame", "type", "x"])
def test_texts_that_name_nothing_are_refused_before_they_fill_the_memory(tmp_path, pool, name):
    path = write_with(tmp_path / "a.parquet", name, repeated("a" * (1 << 20)))
    with pytest.raises(ClipError, match=rf"a\.parquet, row 1: column '{name}' .* 1,048,576 char"):
        found(path)
    assert pool.max_memory() < 50e6


def test_texts_that_unpack_to_too_much_are_refused(tmp_path, pool):
    texts = pyarrow.array([f"{at}" + "a" * (1 << 20) for at in range(100)])
    path = write_with(tmp_path / "a.parquet", "sign", texts)
    pool_before = pool.max_memory()
    with pytest.raises(ClipError, match=r"a\.parquet has [\d,]+ bytes and would unpack to 10\d,"):
        found(path)
    assert pool.max_memory() < pool_before + 50e6


def test_columns_of_lists_are_refused(tmp_path):
    path = write_with(tmp_path / "a.parquet", "x", pyarrow.array([[0.5]] * 330))
    with pytest.raises(ClipError, match=r"a\.parquet: column 'x' .*list.*expected numbers or text"):
        found(path)


def test_text_in_parquet_as_older_programs_write_it(tmp_path):
    path = write_with(tmp_path / "a.parquet", "sign", pyarrow.array(["höre".encode()] * 330))
    assert found(path)[0].class_name == "höre"
    path = write_with(tmp_path / "b.parquet", "sign", pyarrow.array([b"\xff"] * 330))
    with pytest.raises(ClipError, match=r"b\.parquet, row 1: column 'sign' .*no UTF-8"):
        found(path)


@pytest.mark.parametrize("kind", ["timestamp[us]", "timestamp[ns]", "duration[ns]", "time64[us]"])
def test_a_frame_may_be_a_time(tmp_path, kind):
    import pyarrow
    from pyarrow import parquet

    step = 40_000_000 if kind.endswith("[ns]") else 40_000
    order = [3, 0, 2, 1, 4, 25]  # 25: a whole second, which text writes without its fraction
    frames = pyarrow.array([at * step for at in order], pyarrow.int64()).cast(kind)
    parts, values = {}, [0.1 + at / 100 for at in order]
    for at in range(33):
        parts |= {f"x_pose_{at}": values, f"y_pose_{at}": [0.5] * 6}
    (tmp_path / "hello").mkdir()
    parquet.write_table(pyarrow.table({"frame": frames, **parts}), tmp_path / "hello" / "a.parquet")
    (clip,) = read_clips(tmp_path).clips
    np.testing.assert_allclose(clip.landmarks[:, 0, 0], sorted(values), rtol=1e-6)
