"""CSVs as spreadsheets of other countries write them."""

from pathlib import Path

import pytest

from harness.comparison.foreign import is_known, translate
from harness.comparison.sides import open_side
from harness.comparison.spreadsheets import read_spreadsheet
from harness.refusal import Refusal

GIVEN = {"n": "1000", "dataset": "d", "suite": "s", "model": "m"}
EXPECTED = {("fog", 1.0): 0.91, ("frost", 3.0): 0.5}


def values(path: Path, **given: str) -> dict[tuple[str, float], float]:
    rows = read_spreadsheet(path, is_known)
    table, _ = translate(rows, {}, GIVEN | given, {})
    return dict(
        zip(zip(table["condition"], table["level"], strict=True), table["value"], strict=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        "corruption,severity,accuracy\nfog,1,0.91\nfrost,3,0.5\n",
        "corruption;severity;accuracy\nfog;1;0.91\nfrost;3;0.5\n",
        "corruption;severity;accuracy\nfog;1;0,91\nfrost;3;0,5",
        "\ufeffcorruption;severity;accuracy\r\nfog;1;,91\r\nfrost;3;5,0e-1\r\n",
        "corruption\tseverity\taccuracy\nfog\t1\t0,91\nfrost\t3\t0,5\n",
        "corruption|severity|accuracy\nfog|1|0.91\nfrost|3|0.5\n",
        'corruption,severity,accuracy\nfog,1,"0,91"\nfrost,3,"0,5"\n',
        "sep=;\ncorruption;severity;accuracy\nfog;1;0,91\nfrost;3;0,5\n",
        "corruption, severity, accuracy\nfog, 1, 0.91\nfrost, 3, 0.5\n",
        "corruption;severity;accuracy;;\nfog;1;0,91;;\nfrost;3;0,5;;\n;;;;\n",
        "corruption,severity,accuracy\nfog,1,0.91,,\nfrost,3,0.5,\n",
        "corruption;;severity;accuracy\n\nfog;;1;0,91\nfrost;;3;0,5\n",
        ";corruption;severity;accuracy\n0;fog;1;0,91\n1;frost;3;0,5\n",
        "corruption;severity;accuracy;accuracy, %\nfog;1;0,91;91,0\nfrost;3;0,5;50,0\n",
        'corruption,severity,accuracy,"weights; data"\nfog,1,0.91,"1,234; x"\nfrost,3,0.5,"7; y"\n',
        'corruption,severity,accuracy,parameters\nfog,1,0.91,"11,173"\nfrost,3,0.5,"11,173"\n',
        "corruption;severity;accuracy;note\nfog;1;0,91;1.5\nfrost;3;0,5;none\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_can_be_read_in_one_way_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(
        text.lstrip("\ufeff") if encoding != "utf-8" else text, encoding
    )
    assert values(tmp_path / "a.csv") == EXPECTED


def test_a_value_with_three_decimals_is_understood_by_its_neighbors(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("corruption;severity;nll\nfog;1;1,234\nfrost;3;0,5\n")
    assert values(path) == {("fog", 1): 1.234, ("frost", 3): 0.5}
    path.write_text("corruption;severity;nll\nfog;1;1.234\nfrost;3;0.5\n")
    assert values(path) == {("fog", 1): 1.234, ("frost", 3): 0.5}
    path.write_text("corruption,severity,nll\nfog,1,1.234\nfrost,3,2.345\n")
    assert values(path) == {("fog", 1): 1.234, ("frost", 3): 2.345}, "as programs write it"


@pytest.mark.parametrize(
    "text, message",
    [
        ("corruption;severity;nll\nfog;1;1,234\n", "has numbers such as 1,234, in thousands or wi"),
        ("corruption;severity;nll\nfog;1;1.234\n", "has numbers such as 1.234, in thousands or wi"),
        ('corruption,severity,nll\nfog,1,"1,234"\n', "has numbers such as 1,234, in thousands or"),
        ("corruption\tnll\nfog\t2,500\nfrost\t1,500\n", "has numbers such as 2,500"),
        (
            "corruption;severity;nll\nfog;1;0,91\nfrost;3;0.85\n",
            "a comma and with a point, such",
        ),
        ('corruption,accuracy,n\nfog,0.91,"10,000"\n', "such as 10,000 and 0.91. Write all with a"),
        ("corruption;severity;nll\nfog;1;1.234,5\n", "`value` must be a number; got '1.234,5'"),
        (
            "corruption;severity;accuracy\nfog;1;0,91\nfrost;3\n",
            "line 3 has 2 fields, the header",
        ),
        ("corruption,severity,accuracy\nfog,1,0,91\n", "line 2 has 4 fields, the header 3. Corre"),
        ("a,b;c\n1,2;3\n", "can be read as separated by commas or by semicolons. Save it with"),
        ("corruption;accuracy;accuracy\nfog;0,9;0,8\n", "has the column 'accuracy' twice. Correct"),
        ("", "is damaged: it is empty. Correct the file"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(Refusal, match=message) as caught:
        values(tmp_path / "a.csv")
    assert "un it again" not in str(caught.value) and "emove" not in str(caught.value)


def test_other_encodings_are_refused_with_a_cure_that_fits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("corruption;Qualität\nfog;0,9\n", "cp1252")
    with pytest.raises(Refusal, match="line 1 is not UTF-8. Correct the file, or map its columns"):
        values(tmp_path / "a.csv")


def test_columns_that_are_mapped_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Rauschen;Stufe;Güte\nfog;1;91,5 %\nfrost;3;50 %\n")
    columns = {"Rauschen": "condition", "Stufe": "level", "Güte": "percent"}
    side = open_side(path, columns, GIVEN)
    assert side.rows["value"].tolist() == [0.915, 0.5]
