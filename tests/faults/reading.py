"""Random small tables, written by pyarrow and DuckDB, read by counterweight as DuckDB reads them.

    reading.py BINARY [--seed N] [--tables N] [--keep FOLDER]

A table must come back with the same columns, types, values and NULLs, or be refused with exit code 2 and a message that
names a file or a column. What differs from DuckDB on purpose is listed in `ALLOWED`. A table that fails is made smaller
before it is shown; the seed of each is printed, `--tables 1 --seed N` repeats it.
"""

import argparse
import collections
import csv
import dataclasses
import datetime
import decimal
import gzip
import io
import json
import math
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

TEXTS = ["", "a", "b c", " lead", "trail ", 'say "x"', "it's", "x,y", "tab\there", "line\nbreak", "cr\r\nlf", "é", "日本", "😀", "null",
         "true", "1", "-", "a\\b", "a;b", "#", "__HIVE_DEFAULT_PARTITION__"]
NUMBERS = [0, 1, -1, 7, 100, 2**31 - 1, -(2**31)]
LARGE = [2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**62]
DOUBLES = [0.0, -0.0, 0.5, 1.0, -2.25, 1e300, 1e-300, 0.1, 123456789.125]
SPECIAL = [math.nan, math.inf, -math.inf]
DATES = [datetime.date(1970, 1, 1), datetime.date(2026, 1, 31), datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]
TIMES = [datetime.datetime(2026, 1, 31, 10), datetime.datetime(1969, 12, 31, 23, 59, 59, 500000),
         datetime.datetime(9999, 12, 31, 23, 59, 59), datetime.datetime(2026, 3, 29, 2, 30)]
DECIMALS = [decimal.Decimal(text) for text in ("0.00", "1.25", "-99.99", "1234567.89")]

# A kind of column: its values, and the Arrow types that a file may have it in.
KINDS = {
    "integer": (NUMBERS, [pa.int32(), pa.int64()]),
    "large": (NUMBERS + LARGE, [pa.int64()]),
    "double": (DOUBLES, [pa.float64()]),
    "special": (DOUBLES + SPECIAL, [pa.float64()]),
    "single": ([0.0, 0.5, -2.25, 1024.0], [pa.float32(), pa.float64()]),
    "number": ([0, 1, 7, -3], [pa.int32(), pa.float64()]),
    "text": (TEXTS, [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]),
    "zeros": (["007", "7", "07", "100"], [pa.string()]),
    "boolean": ([True, False], [pa.bool_()]),
    "date": (DATES, [pa.date32()]),
    "timestamp": (TIMES, [pa.timestamp("us"), pa.timestamp("ms")]),
    "moment": (DATES[:2], [pa.date32(), pa.timestamp("us")]),
    "decimal": (DECIMALS, [pa.decimal128(9, 2), pa.decimal128(18, 2)]),
    "marker": (["1", "2", "NA", "\\N", "NULL"], [pa.string()]),
    "mixed": (["1", "x", "2026-01-31", "true", "0.5"], [pa.string()]),
}
PLAIN = list(KINDS)
# Numbers, truth and times in forms that docs/reading.md names.
NAMED = [["0.5", ".5", "5."], ["1", "1e5"], ["2026-01-31T10:00:00", "2026-01-31 10:00:00"], ["2026-01-31T10:00:00", "2026-01-31"],
         ["2026-01-31 10:00:00+02:00", "2026-01-31 10:00:00Z"], ["20260131", "20260201"], ["9223372036854775808", "1"],
         ["18446744073709551616", "0.5"], ["-0", "0"], ["1", "1.0"], ["9007199254740993", "0.5"], ["1", "true"],
         ["nan", "1"], ["infinity", "1"], ["-", "1"], ["é", "1"], ["\ufeffx", "y"]]
# In forms that it does not name: they are text, as they are written.
LOOSE = [["1", " 2", "3 "], ["1", "+2"], ["1,000", "2"], ["0x10", "1"], ["True", "FALSE"], ["t", "f"], ["yes", "no"],
         ["10:00:00", "23:59:59"], ["2026-1-5", "2026-01-31"], ["2026-02-30", "2026-01-31"], ["31/01/2026", "01/02/2026"]]
KINDS |= {f"named {values}": (values, [pa.string()]) for values in NAMED}
KINDS |= {f"loose {values}": (values, [pa.string()]) for values in LOOSE}
KINDS |= {
    "unsigned": ([0, 1, 2**32 - 1], [pa.uint32(), pa.uint64(), pa.int64()]),
    "unsigned large": ([0, 2**63, 2**64 - 1], [pa.uint64()]),
    "large number": ([0, 1, 2**53], [pa.int64(), pa.float64()]),
    "zone": ([time.replace(tzinfo=datetime.timezone.utc) for time in TIMES[:2]], [pa.timestamp("us", "UTC")]),
    "nothing": ([None], [pa.string(), pa.int64()]),
    "list": ([[], [1], [1, None, 2]], [pa.list_(pa.int64())]),
}
FORMATS = ["parquet", "csv", "tsv", "csv.gz", "ndjson", "arrow"]


@dataclasses.dataclass
class Table:
    """A table: its kinds of columns, and for each file the writer, the columns' types in their order, and the rows."""

    seed: int
    format: str
    kinds: dict
    files: list

    def rows(self):
        return sum(len(file["rows"]) for file in self.files)


def make(seed):
    choose = random.Random(seed)
    format = choose.choice(FORMATS)
    kinds = {f"c{number}": choose.choice(choose.choice([PLAIN, list(KINDS)])) for number in range(choose.randint(1, 4))}
    nulls = choose.choice([0, 0.2, 0.2, 0.6])
    files, number = [], 0
    for _ in range(choose.choice([1, 1, 2, 3])):
        names = [name for name in kinds if not files or choose.random() > 0.15]
        types = {"n": pa.int64()} | {name: choose.choice(KINDS[kinds[name]][1]) for name in names}
        order = list(types)
        choose.shuffle(order)
        rows = []
        for _ in range(choose.choice([1, 2, 5, 20])):
            row = {name: None if choose.random() < nulls else choose.choice(KINDS[kinds[name]][0]) for name in names}
            rows.append({"n": number} | row)
            number += 1
        files.append({"writer": choose.choice(["pyarrow", "duckdb"]), "all": choose.random() < 0.5,
                      "end": choose.choice(["\n", "\r\n"]), "types": {name: types[name] for name in order}, "rows": rows})
    return Table(seed, format, kinds, files)


def arrow(file):
    def column(name, type):
        values = [row.get(name) for row in file["rows"]]
        if pa.types.is_timestamp(type):
            values = [value if value is None or isinstance(value, datetime.datetime)
                      else datetime.datetime.combine(value, datetime.time()) for value in values]
        return pa.array(values, pa.string()).dictionary_encode() if pa.types.is_dictionary(type) else pa.array(values, type)

    return pa.table({name: column(name, type) for name, type in file["types"].items()})


def text_of(value):
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            return {"nan": "NaN", "inf": "inf", "-inf": "-inf"}.get(str(value), repr(value))
        case datetime.datetime():
            return value.isoformat(" ")
        case _:
            return str(value)


def write(table, folder):
    """Writes the files of a table; returns their paths."""
    paths = []
    for number, file in enumerate(table.files):
        path = folder / f"f{number}.{table.format}"
        paths.append(path)
        data = arrow(file)
        duck = duckdb.connect()
        duck.register("data", data)
        kind = table.format.split(".")[0]
        separator = "\t" if kind == "tsv" else ","
        if kind == "parquet":
            if file["writer"] == "duckdb":
                duck.execute(f"COPY data TO '{path}' (FORMAT parquet)")
            else:
                pq.write_table(data, path, row_group_size=3 if file["all"] else None)
        elif kind == "arrow":
            pa.feather.write_feather(data, path, compression="lz4" if file["all"] else "uncompressed")
        elif kind == "ndjson":
            if file["writer"] == "duckdb" and "special" not in table.kinds.values():
                duck.execute(f"COPY data TO '{path}' (FORMAT json)")
            else:
                lines = []
                for row in data.to_pylist():
                    plain = {name: value if isinstance(value, (int, str, list)) or value is None
                             or isinstance(value, float) and math.isfinite(value)
                             else float(value) if isinstance(value, decimal.Decimal) else text_of(value)
                             for name, value in row.items() if value is not None or file["all"]}
                    lines.append(json.dumps(plain, ensure_ascii=file["all"]))
                path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            if file["writer"] == "duckdb":
                plain = folder / "plain"
                force = ", FORCE_QUOTE *" if file["all"] else ""
                duck.execute(f"COPY data TO '{plain}' (FORMAT csv, HEADER, DELIMITER '{separator}'{force})")
                content = plain.read_bytes()
                plain.unlink()
            else:
                sink = io.StringIO(newline="")
                writer = csv.writer(sink, delimiter=separator, lineterminator=file["end"],
                                    quoting=csv.QUOTE_ALL if file["all"] else csv.QUOTE_MINIMAL)
                writer.writerow(data.column_names)
                writer.writerows([text_of(value) for value in row.values()] for row in data.to_pylist())
                content = sink.getvalue().encode()
            path.write_bytes(gzip.compress(content) if table.format.endswith(".gz") else content)
    return paths


def expected(table, paths):
    """The table as DuckDB reads it."""
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    files = [str(path) for path in paths]
    if table.format == "parquet":
        source = f"read_parquet({files}, union_by_name = true)"
    elif table.format == "ndjson":
        source = f"read_json({files}, format = 'newline_delimited', union_by_name = true, sample_size = -1)"
    elif table.format == "arrow":
        for number, file in enumerate(table.files):
            duck.register(f"t{number}", arrow(file))
        source = "(" + " UNION ALL BY NAME ".join(f"FROM t{number}" for number in range(len(files))) + ")"
    else:
        separator = "\\t" if table.format == "tsv" else ","
        source = (f"read_csv({files}, union_by_name = true, header = true, delim = '{separator}', quote = '\"', "
                  "escape = '\"', sample_size = -1)")
    return duck.sql(f"SELECT * FROM {source} ORDER BY n").to_arrow_table()


def read(binary, folder):
    """The table as counterweight reads it, or exit code and message."""
    out = folder.parent / "out.parquet"
    out.unlink(missing_ok=True)
    command = [binary, "sql", "--format", "parquet", "--output", str(out), "-c", f"SELECT * FROM '{folder}/' ORDER BY n"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "COUNTERWEIGHT_"))}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    return pq.read_table(out) if run.returncode == 0 else (run.returncode, run.stderr)


def kind_of(type):
    """The type, whatever its encoding: of text, and the unit of times, which holds the values either way."""
    if pa.types.is_dictionary(type):
        return kind_of(type.value_type)
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return "text"
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return f"list of {kind_of(type.value_type)}"
    if pa.types.is_timestamp(type):
        return "timestamp with zone" if type.tz else "timestamp"
    return str(type)


def plain(value):
    """A value that equals only what is the same: NaN itself, and 0 not -0."""
    if isinstance(value, float):
        return text_of(value)
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return value.astimezone(datetime.timezone.utc)
    return value


def values_of(column):
    """Dates as days where one is infinite, which Python's are not."""
    try:
        return [plain(value) for value in column.to_pylist()]
    except OverflowError:
        return column.cast(pa.int32()).to_pylist()


def numbers(values):
    """What texts and numbers stand for as doubles; a text that is JSON has its quotes."""
    try:
        return [None if value in (None, "") else text_of(float(str(value).strip('"'))) for value in values]
    except (TypeError, ValueError):
        return None


def times(values):
    """What texts, dates and times stand for as moments, those without a zone in UTC."""
    def moment(value):
        value = datetime.datetime.fromisoformat(str(value).strip('"'))
        return value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)

    try:
        return [None if value is None else moment(value) for value in values]
    except ValueError:
        return None


def texts(values):
    return [None if value is None else str(value) for value in values]


TEXTUAL = ("csv", "tsv", "csv.gz")
# What differs on purpose: the reason, the formats, the types (DuckDB's and ours), and what must be the same all the same.
ALLOWED = [
    ("dates and times in JSON are text, which `schema` may declare otherwise",
     ("ndjson",), ("date32[day]", "timestamp", "timestamp with zone"), ("text",), times),
    ("\"NaN\" and \"inf\" are numbers in a column of numbers", ("ndjson",), ("text",), ("double",), numbers),
    ("DuckDB makes HUGEINT of some integers in JSON that 64 bits hold", ("ndjson",), ("decimal128(38, 0)",), ("int64", "uint64"), texts),
    ("DuckDB makes dates of infinities alone", TEXTUAL, ("date32[day]", "timestamp"), ("double",),
     lambda values: [value is None for value in values]),
    ("DuckDB takes infinities for dates, so that numbers beside them are text", TEXTUAL, ("text",), ("double",),
     lambda values: numbers(values) if {"inf", "-inf", "infinity"} & set(values) else None),
    ("dates beside times are times", TEXTUAL, ("text",), ("timestamp",), times),
    ("integers of more than 64 bits are text", TEXTUAL, ("double", "decimal128(38, 0)"), ("text",), numbers),
    ("a column without values has no type", TEXTUAL + ("ndjson",), None, ("text", "null", "int64"),
     lambda values: values if all(value is None for value in values) else None),
    ("a leading zero makes text", TEXTUAL, ("int64", "double"), ("text",), numbers),
    ("an integer and a double make a double of what a double holds", None, ("float",), ("double",), numbers),
]


def compare(table, wanted, got, used):
    """What differs, or None."""
    if sorted(wanted.column_names) != sorted(got.column_names):
        return f"columns {sorted(got.column_names)}, not {sorted(wanted.column_names)}"
    if wanted.num_rows != got.num_rows:
        return f"{got.num_rows} rows, not {wanted.num_rows}"
    for name in wanted.column_names:
        ours, theirs = kind_of(got[name].type), kind_of(wanted[name].type)
        mine, right = values_of(got[name]), values_of(wanted[name])
        if ours == theirs and mine == right:
            continue
        if ours == "text" and table.kinds.get(name, "").startswith("loose"):
            written = {row["n"]: row.get(name) for file in table.files for row in file["rows"]}
            if mine == [written[number] for number in got["n"].to_pylist()]:
                used["forms that are not named are text, as they are written"] += 1
                continue
        for reason, formats, duck, us, same in ALLOWED:
            if (formats is None or table.format in formats) and (duck is None or theirs in duck) and ours in us:
                mapped = same(mine)
                if mapped is not None and mapped == same(right):
                    used[reason] += 1
                    break
        else:
            differing = [(row, a, b) for row, (a, b) in enumerate(zip(mine, right)) if a != b][:3]
            return f"{name} ({table.kinds.get(name)}): {ours}, not {theirs}; row, got, wanted: {differing}"
    return None


def check(binary, table, folder, used):
    """A verdict ("same", "refused", "DuckDB refuses", "wrong") and what there is to say."""
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data"
    data.mkdir(parents=True)
    paths = write(table, data)
    got = read(binary, data)
    try:
        wanted = expected(table, paths)
    except duckdb.Error as error:
        wanted = error
    if isinstance(got, tuple):
        code, message = got
        names = [path.name for path in paths] + [f"\"{name}\"" for name in table.kinds] + list(table.kinds)
        if code != 2:
            return "wrong", f"exit code {code}: {message}"
        if not any(name in message for name in names):
            return "wrong", f"the message names neither a file nor a column: {message}"
        return "refused", message
    if isinstance(wanted, Exception):
        return "DuckDB refuses", str(wanted)
    difference = compare(table, wanted, got, used)
    return ("wrong", difference) if difference else ("same", "")


def smaller(table):
    """Tables with less in them."""
    for number in range(len(table.files)):
        if len(table.files) > 1:
            yield dataclasses.replace(table, files=table.files[:number] + table.files[number + 1:])
    for name in table.kinds:
        files = [file | {"types": {key: type for key, type in file["types"].items() if key != name}} for file in table.files]
        yield dataclasses.replace(table, kinds={key: kind for key, kind in table.kinds.items() if key != name}, files=files)
    for number, file in enumerate(table.files):
        rows = file["rows"]
        for size in (len(rows) // 2, 1):
            for start in range(0, len(rows), size) if size and len(rows) > 1 else ():
                fewer = file | {"rows": rows[:start] + rows[start + size:]}
                if fewer["rows"]:
                    yield dataclasses.replace(table, files=table.files[:number] + [fewer] + table.files[number + 1:])


def shrink(binary, table, folder):
    for _ in range(100):
        for candidate in smaller(table):
            if check(binary, candidate, folder, collections.Counter())[0] == "wrong":
                table = candidate
                break
        else:
            break
    return table


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--keep", type=pathlib.Path, help="where the tables that are read wrong are kept")
    arguments = parser.parse_args()
    verdicts, used, refused, wrong = (collections.Counter() for _ in range(4))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "table"
        for seed in range(arguments.seed, arguments.seed + arguments.tables):
            table = make(seed)
            verdict, what = check(arguments.binary, table, folder, used)
            verdicts[verdict] += 1
            if verdict == "refused":
                refused[(table.format, what.strip().splitlines()[-1].replace(temporary, "")[:160])] += 1
            if verdict != "wrong":
                continue
            wrong[table.format] += 1
            if verdicts[verdict] > 10:
                continue
            small = shrink(arguments.binary, table, folder)
            what = check(arguments.binary, small, folder, collections.Counter())[1]
            print(f"\nseed {seed}: {table.format}: {what.strip().replace(temporary, '')}")
            for path in sorted((folder / "data").iterdir()):
                shown = path.read_bytes()
                if path.suffix == ".gz":
                    shown = gzip.decompress(shown)
                if table.format in ("parquet", "arrow"):
                    number = int(path.name[1:path.name.index(".")])
                    shown = f"{arrow(small.files[number]).schema} {arrow(small.files[number]).to_pylist()}".replace("\n", ", ")
                print(f"  {path.name}: {shown}")
            if arguments.keep:
                shutil.copytree(folder / "data", arguments.keep / str(seed), dirs_exist_ok=True)
    print(f"\n{arguments.tables} tables from seed {arguments.seed}: {dict(verdicts)}; wrong by format: {dict(wrong)}")
    for (format, what), count in refused.most_common(12):
        print(f"  refused {count}: {format}: {what}")
    for reason, count in used.most_common():
        print(f"  differs on purpose {count}: {reason}")
    # A program that refuses everything would pass otherwise.
    few = verdicts["same"] < arguments.tables / 2
    if few:
        print("fewer than half of the tables are read")
    sys.exit(bool(verdicts["wrong"]) or few)


main()
