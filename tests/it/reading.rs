//! How files become rows: through the built binary, each case with its right value.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use counterweight::arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch,
    StringArray, StringViewArray,
};
use counterweight::arrow::ipc::writer::FileWriter;
use counterweight::parquet::arrow::ArrowWriter;
use counterweight::parquet::data_type::{Int96, Int96Type};
use counterweight::parquet::file::writer::SerializedFileWriter;
use counterweight::parquet::schema::parser::parse_message_type;

use crate::support::{counterweight, fail, succeed};

/// A folder of files, and the program run in it.
struct Here(tempfile::TempDir);

impl Here {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    fn batch(&self, name: &str, columns: &[(&str, ArrayRef)]) -> &Self {
        self.write(name, "");
        let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
        let file = File::create(self.path().join(name)).unwrap();
        if name.ends_with("arrow") {
            let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
        } else {
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        self
    }

    fn run(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = counterweight();
        command.current_dir(self.path()).args(arguments);
        command
    }

    /// The rows of a query, as CSV.
    fn rows(&self, query: &str) -> String {
        self.rows_with(&[], query)
    }

    fn rows_with(&self, arguments: &[&str], query: &str) -> String {
        let all = [&["sql", "--format", "csv", "--no-header"], arguments, &["-c", query]].concat();
        succeed(&mut self.run(&all))
    }

    /// The rows of a query over the table `t`, whose keys are given.
    fn rows_of(&self, keys: &str, query: &str) -> String {
        self.job(keys);
        self.rows_with(&["--job", "job.toml"], query)
    }

    fn job(&self, keys: &str) -> &Self {
        self.write("job.toml", format!("name = 'j'\n[tables.t]\n{keys}\n"))
    }

    /// What is said of a query that is refused for its data.
    fn refused(&self, query: &str) -> String {
        self.refuses(&["sql", "-c", query])
    }

    fn refused_of(&self, keys: &str, query: &str) -> String {
        self.job(keys);
        self.refuses(&["sql", "--job", "job.toml", "-c", query])
    }

    fn refuses(&self, arguments: &[&str]) -> String {
        let (code, said) = fail(&mut self.run(arguments));
        assert_eq!(code, 2, "{arguments:?}: {said}");
        said
    }
}

/// Whether all of `words` are in `said`.
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn columns_of_csv_are_matched_by_header_in_every_file() {
    let here = Here::new();
    here.write("d/a.csv", "o,p\n1,0.5\n").write("d/b.csv", "p,o\n0.25,1\n");
    assert_eq!(here.rows("SELECT avg(p), sum(o) FROM 'd/'"), "0.375,2\n");
    here.write("d/c.csv", "o,p,d\n0,0.5,x\n");
    assert_eq!(here.rows("SELECT count(*), count(d), sum(o) FROM 'd/'"), "3,1,2\n");
    let plan = here.rows("EXPLAIN SELECT o FROM 'd/'");
    says(&plan, &["Union", "Projection: read_as(files.o"]);
}

#[test]
fn a_declared_schema_is_matched_by_header_where_there_is_one() {
    let here = Here::new();
    here.write("a.csv", "p,o\n0.25,1\n0.5,0\n");
    let schema = "url = 'a.csv'\nschema = 'o DOUBLE, p DOUBLE'";
    assert_eq!(here.rows_of(schema, "SELECT sum(o), avg(p) FROM t"), "1.0,0.375\n");
    let positional = "url = 'b.csv'\nheader = false\nschema = 'o DOUBLE, p DOUBLE'";
    here.write("b.csv", "0.25,1\n0.5,0\n");
    assert_eq!(here.rows_of(positional, "SELECT sum(o), avg(p) FROM t"), "0.75,0.5\n");
    let said = here.refused_of("url = 'a.csv'\nschema = 'o DOUBLE, pp DOUBLE'", "SELECT * FROM t");
    says(&said, &["\"pp\"", "did you mean \"p\"?", "header = false"]);
    let said = here.refused_of(&positional.replace(", p DOUBLE", ""), "SELECT * FROM t");
    says(&said, &["b.csv", "2 columns", "declares 1"]);
}

#[test]
fn values_may_hold_line_breaks_however_many_threads_read_and_however_large_the_file() {
    let here = Here::new();
    let note = "x\n".repeat(8000);
    here.write("small.csv", format!("o,p,note\n1,0.5,\"{note}\"\n0,0.25,y\n"));
    // Above the 10 MB from which on scans are split.
    let mut large = "o,p,note\n".to_owned();
    for row in 0..1500 {
        large += &format!("{},{},\"{note}\"\n", row % 2, 0.25 * f64::from(1 + row % 2));
    }
    here.write("large.csv", large);
    for threads in ["1", "2", "7"] {
        for (file, right) in [("small", "2,0.375\n"), ("large", "1500,0.375\n")] {
            let query = format!("SELECT count(*), avg(p) FROM '{file}.csv'");
            assert_eq!(here.rows_with(&["--threads", threads], &query), right, "{file}, {threads} threads");
            let keys = format!("url = '{file}.csv'\nschema = 'o BIGINT, p DOUBLE, note VARCHAR'");
            here.job(&keys);
            let declared = ["--threads", threads, "--job", "job.toml"];
            assert_eq!(here.rows_with(&declared, "SELECT count(*), avg(p) FROM t"), right, "{file}, {threads} threads");
        }
    }
    let said = here.refused_of("url = 'small.csv'\nnewlines = false", "SELECT * FROM t");
    says(&said, &["small.csv", "newlines = false"]);
}

#[test]
fn quotes_escapes_and_delimiters_are_what_a_table_says() {
    let here = Here::new();
    here.write("a.csv", "a;b\n'x;y';'it\\'s'\n");
    let keys = "url = 'a.csv'\ndelimiter = ';'\nquote = \"'\"\nescape = '\\'";
    assert_eq!(here.rows_of(keys, "SELECT a, b FROM t"), "x;y,it's\n");
    here.write("b.csv", "a,b\n\"say \"\"x\"\"\",1\n");
    assert_eq!(here.rows("SELECT length(a) FROM 'b.csv'"), "7\n");
    here.write("c.csv", "\u{feff}a,b\r\n1,2\r\n");
    assert_eq!(here.rows("SELECT a + b FROM 'c.csv'"), "3\n");
    here.write("d.csv", "a,b\n1,2\n3\n");
    says(&here.refused("SELECT sum(b) FROM 'd.csv'"), &["d.csv", "incorrect number of fields"]);
    here.write("e.csv", "a,a\n1,2\n");
    says(&here.refused("SELECT * FROM 'e.csv'"), &["e.csv", "two columns \"a\""]);
}

#[test]
fn a_marker_is_null_where_the_table_says_so_and_named_where_it_does_not() {
    let here = Here::new();
    for marker in [r"\N", "NA", "NULL"] {
        let (after, late) = ("1,0.5,1\n".repeat(1500), "1,0.5,1\n0,0.5,0\n".repeat(400_000));
        for (name, text) in [
            ("early.csv", format!("o,p,e\n1,0.5,0\n0,0.5,{marker}\n")),
            ("after.csv", format!("o,p,e\n{after}0,0.5,{marker}\n")),
            ("late.csv", format!("o,p,e\n{late}0,0.5,{marker}\n")),
        ] {
            here.write(name, &text);
            let keys = format!("url = '{name}'");
            let with_null = format!("{keys}\nnull = '{marker}'");
            assert_eq!(here.rows_of(&with_null, "SELECT count(*) - count(e) FROM t"), "1\n", "{name}");
            let said = here.refused_of(&keys, "SELECT sum(e) FROM t");
            says(&said, &[name, "\"e\"", &format!("null = {marker:?}"), "schema"]);
            if name == "late.csv" {
                continue;
            }
            let audit =
                "[columns]\ntreated = 'o'\npropensity = 'p'\noutcome = 'e'\n[audit.a]\nquery = 'SELECT * FROM t'\n";
            here.write("audit.toml", format!("name = 'j'\n[tables.t]\n{keys}\n{audit}"));
            says(&here.refuses(&["audit", "audit.toml"]), &[name, "\"e\"", &format!("null = {marker:?}")]);
        }
        // As text it is what it is.
        let text = "url = 'early.csv'\nschema = 'e VARCHAR'";
        assert_eq!(here.rows_of(text, "SELECT max(e) FROM t"), format!("{marker}\n"));
    }
}

#[test]
fn types_of_csv_lose_nothing() {
    let here = Here::new();
    let distinct = |values: &str| {
        here.write("u.csv", format!("u,v\n{}\n", values.replace(' ', ",\n")));
        let rows = here.rows("SELECT count(DISTINCT u), arrow_typeof(min(u)) FROM 'u.csv'");
        rows.trim().to_owned()
    };
    for (values, right) in [
        ("7 007 ", "2,Utf8"),
        ("9223372036854775807 9223372036854775806 ", "2,Int64"),
        ("9223372036854775808 9223372036854775809 ", "2,Utf8"),
        ("9007199254740993 9007199254740992 0.5 ", "3,Utf8"),
        ("1 0.5 ", "2,Float64"),
        ("1 NaN ", "2,Float64"),
        ("true False ", "2,Boolean"),
        ("2026-01-31 2026-02-01 ", "2,Date32"),
        ("2026-01-31 2026-02-30 ", "2,Utf8"),
        ("2026-01-31T10:00:00.5 2026-02-01 ", "2,\"Timestamp(µs)\""),
        ("2026-01-31T10:00:00Z ", "1,\"Timestamp(µs, \"\"UTC\"\")\""),
    ] {
        assert_eq!(
            distinct(values).replace("\"Timestamp(µs)\"", "Timestamp(µs)"),
            right.replace("\"Timestamp(µs)\"", "Timestamp(µs)"),
            "{values}"
        );
    }
    // A value beyond what is looked at for types.
    for (most, last, named) in [("7\n", "007", "\"007\""), ("7\n", "0.5", "\"0.5\""), ("true\n", "x", "\"x\"")] {
        here.write("late.csv", format!("u\n{}{last}\n", most.repeat(3_000_000)));
        says(&here.refused("SELECT max(u) FROM 'late.csv'"), &["late.csv", "\"u\"", named, "\"u\" VARCHAR"]);
    }
    // The columns of a table have a type each, and not each of its files.
    here.write("d/a.csv", "x\n1\n").write("d/b.csv", "x\n0.5\n").write("d/c.csv", "x\n");
    assert_eq!(here.rows("SELECT sum(x) FROM 'd/'"), "1.5\n");
}

#[test]
fn ndjson_is_typed_by_all_of_its_lines() {
    let here = Here::new();
    here.write("u.json", "{\"u\":9223372036854775808}\n{\"u\":9223372036854775809}");
    assert_eq!(here.rows("SELECT count(DISTINCT u) FROM 'u.json'"), "2\n");
    here.write("p.json", "{\"p\":0.5}\n{\"p\":\"NaN\"}");
    assert_eq!(here.rows("SELECT CAST(p AS DOUBLE) FROM 'p.json'"), "0.5\nNaN\n");
    here.write("late.json", format!("{}{{\"x\":0.5}}\n", "{\"x\":1}\n".repeat(5000)));
    assert_eq!(here.rows("SELECT sum(x) FROM 'late.json'"), "5000.5\n");
    here.write("d/a.json", "{\"b\":1,\"a\":2}\n")
        .write("d/b.ndjson", "{\"a\":3}\n")
        .write("d/c.jsonl", "{\"a\":null}\n");
    assert_eq!(here.rows("SELECT sum(a), sum(b), count(*) FROM 'd/'"), "5,1,3\n");
    for (lines, words) in [
        ("{\"u\":9007199254740993}\n{\"u\":0.5}", &["\"u\"", "line 2", "2^53"][..]),
        ("{\"u\":18446744073709551616}", &["\"u\"", "line 1", "as text"]),
        ("{\"u\":1}\n{\"u\":\"x\"}", &["\"u\"", "an integer", "text", "line 2"]),
        ("[{\"u\":1}]", &["JSON array"]),
        ("{\"u\":1}\n{\"u\"", &["line 2"]),
    ] {
        here.write("bad.json", lines);
        let said = here.refused("SELECT * FROM 'bad.json'");
        says(&said, &["bad.json"]);
        says(&said, words);
    }
    here.write("f.json", "{\"x\":0.5}");
    let said = here.refused_of("url = 'f.json'\nschema = 'x BIGINT'", "SELECT x FROM t");
    says(&said, &["\"x\"", "Float64"]);
}

#[test]
fn timestamps_of_96_bits_keep_their_dates() {
    let here = Here::new();
    let schema = Arc::new(parse_message_type("message m { required int96 ts; }").unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(here.path().join("ts.parquet")).unwrap(), schema, Arc::default())
            .unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    // Midnight of 9999-12-31 and 0001-01-01, by their Julian days.
    let day = |julian: u32| Int96::from(vec![0, 0, julian]);
    column.typed::<Int96Type>().write_batch(&[day(5_373_484), day(1_721_426)], None, None).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
    let query = "SELECT CAST(ts AS DATE) FROM";
    assert_eq!(here.rows(&format!("{query} 'ts.parquet'")), "9999-12-31\n0001-01-01\n");
    let seconds = "url = 'ts.parquet'\nint96 = 's'";
    assert_eq!(here.rows_of(seconds, &format!("{query} t")), "9999-12-31\n0001-01-01\n");
    says(&here.refused_of("url = 'ts.parquet'\nint96 = 'h'", "SELECT 1 FROM t"), &["int96 \"h\""]);
}

#[test]
fn types_of_parquet_and_arrow_are_widened_where_nothing_is_lost() {
    let here = Here::new();
    let long = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let double = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    here.batch("a/1.parquet", &[("r", long(&[1, 2]))]).batch("a/2.parquet", &[("r", double(&[0.5]))]);
    assert_eq!(here.rows("SELECT min(r), max(r), count(*) FROM 'a/'"), "0.5,2.0,3\n");
    let single = Arc::new(Float32Array::from(vec![0.5])) as ArrayRef;
    here.batch("b/1.parquet", &[("r", single)]).batch("b/2.parquet", &[("r", double(&[0.25]))]);
    assert_eq!(here.rows("SELECT avg(r) FROM 'b/'"), "0.375\n");
    let text = || Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    let view = Arc::new(StringViewArray::from(vec!["y"])) as ArrayRef;
    here.batch("c/1.parquet", &[("r", text())]).batch("c/2.parquet", &[("r", view.clone())]);
    here.batch("c2/1.arrow", &[("r", text())]).batch("c2/2.arrow", &[("r", view)]);
    for folder in ["c", "c2"] {
        assert_eq!(here.rows(&format!("SELECT min(r), max(r) FROM '{folder}/'")), "x,y\n");
    }
    let date = Arc::new(Date32Array::from(vec![20454])) as ArrayRef;
    here.batch("d/1.parquet", &[("r", date)]).batch("d/2.parquet", &[("r", text())]);
    let said = here.refused("SELECT * FROM 'd/'");
    says(&said, &["d/1.parquet", "d/2.parquet", "Date32", "Utf8", "`schema`"]);
    assert_eq!(here.rows_of("url = 'd/'\nschema = 'r VARCHAR'", "SELECT min(r), max(r) FROM t"), "2026-01-01,x\n");
    here.batch("e/1.parquet", &[("r", long(&[(1 << 53) + 1]))]).batch("e/2.parquet", &[("r", double(&[0.5]))]);
    says(&here.refused("SELECT avg(r) FROM 'e/'"), &["e/1.parquet", "e/2.parquet", "2^53", "`schema`"]);

    // By name, in another order, with a column that one lacks.
    for kind in ["parquet", "arrow"] {
        here.batch(&format!("f/{kind}/1.{kind}"), &[("x", long(&[1])), ("y", double(&[0.5]))]);
        here.batch(&format!("f/{kind}/2.{kind}"), &[("y", double(&[0.25])), ("z", text()), ("x", long(&[2]))]);
        let rows = here.rows(&format!("SELECT x, y, z FROM 'f/{kind}/' ORDER BY x"));
        assert_eq!(rows, "1,0.5,\n2,0.25,x\n", "{kind}");
        assert_eq!(here.rows(&format!("SELECT max(x), count(z) FROM 'f/{kind}/' WHERE y < 1")), "2,1\n");
    }
}

#[test]
fn the_partition_of_rows_without_one_is_null() {
    let here = Here::new();
    here.write("d/c=NL/a.csv", "o\n1\n").write("d/c=__HIVE_DEFAULT_PARTITION__/a.csv", "o\n1\n");
    assert_eq!(here.rows("SELECT count(*) FROM 'd/' WHERE c IS NULL"), "1\n");
    assert_eq!(here.rows("SELECT c, count(*) FROM 'd/' GROUP BY c ORDER BY c NULLS FIRST"), ",1\nNL,1\n");
    here.write("e/k=a%2Fb/a.csv", "o\n1\n");
    assert_eq!(here.rows("SELECT k FROM 'e/'"), "a/b\n");
    here.write("f/k=1/a.csv", "o\n1\n").write("f/b.csv", "o\n1\n");
    says(&here.refused("SELECT * FROM 'f/'"), &["f/b.csv", "k=1/a.csv", "other keys"]);
    assert_eq!(here.rows_of("url = 'd2/'\nschema = 'o INT, n INT'", "SELECT 1").trim(), "1");
    here.write("d2/n=7/a.csv", "o\n1\n");
    assert_eq!(here.rows_of("url = 'd2/'\nschema = 'o INT, n INT'", "SELECT o + n FROM t"), "8\n");
}

#[test]
fn a_partition_that_is_in_the_file_too_has_to_agree() {
    let here = Here::new();
    for (folder, kind) in [("a", "csv"), ("b", "parquet"), ("c", "arrow"), ("e", "json")] {
        let file = |value: i64| {
            let path = format!("{folder}/day=1/x.{kind}");
            match kind {
                "csv" => here.write(&path, format!("o,day\n1,{value}\n")),
                "json" => here.write(&path, format!("{{\"o\":1,\"day\":{value}}}\n")),
                _ => {
                    let column = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
                    here.batch(&path, &[("o", column(1)), ("day", column(value))])
                }
            };
        };
        file(1);
        assert_eq!(here.rows(&format!("SELECT count(*) FROM '{folder}/'")), "1\n");
        assert_eq!(here.rows(&format!("SELECT o, day FROM '{folder}/' WHERE day = '1'")), "1,1\n");
        file(2);
        let said = here.refused(&format!("SELECT count(*) FROM '{folder}/'"));
        says(&said, &["day=1", "\"day\"", "holds 2"]);
    }
}

#[test]
fn empty_files_are_skipped_everywhere() {
    let here = Here::new();
    here.write("d/a.csv", "").write("d/b.csv", "u,i\n1,1\n").write("d/c.csv", "\n");
    assert_eq!(here.rows("SELECT count(*), sum(u) FROM 'd/'"), "1,1\n");
    here.job("url = 'd/'");
    says(&succeed(&mut here.run(&["check", "job.toml"])), &["ok       tables.t"]);
    here.write("e/a.csv", "");
    says(&here.refused("SELECT * FROM 'e/'"), &["e/", "every file there is empty"]);
}

#[test]
fn a_damaged_file_is_named() {
    let here = Here::new();
    let many = Arc::new(StringArray::from_iter_values((0..20_000).map(|row| format!("{}", row * 7919 % 20_011))));
    here.batch("whole.parquet", &[("s", many as ArrayRef)]);
    let whole = std::fs::read(here.path().join("whole.parquet")).unwrap();
    here.write("d/a.parquet", &whole).write("d/b.parquet", &whole[..100]);
    says(&here.refused("SELECT count(*) FROM 'd/'"), &["d/b.parquet"]);
    // The header of its first page is gone.
    let mut broken = whole.clone();
    broken[4..40].fill(0xff);
    here.write("e/a.parquet", &whole).write("e/b.parquet", broken);
    says(&here.refused("SELECT max(length(s)) FROM 'e/'"), &["e/b.parquet"]);
    here.write("f/a.csv.gz", [0x1f, 0x8b, 8, 0, 1, 2, 3]);
    says(&here.refused("SELECT * FROM 'f/'"), &["f/a.csv.gz"]);
    here.write("g.csv", b"x,y\n1,\xff\xfe\n");
    says(&here.refused("SELECT y FROM 'g.csv'"), &["g.csv", "UTF-8"]);
    here.write("h.arrow", "ARROW1 but no more");
    says(&here.refused("SELECT * FROM 'h.arrow'"), &["h.arrow"]);
}

/// A Parquet file with the column `c` of 1.5, 2.5, 3.5 and 4.5, and a checksum of its page: `write_table` of pyarrow 26 with
/// `write_page_checksum=True, compression="none", use_dictionary=False`. No crate writes them.
const WITH_CHECKSUM: &[u8] =
    b"PAR1\x15\x00\x15L\x15L\x15\x9f\xa4\xe4\xe4\x03\x1c\x15\x08\x15\x00\x15\x06\x15\x06\x1c\x00\x00\x00\x02\x00\
    \x00\x00\x08\x01\x00\x00\x00\x00\x00\x00\xf8?\x00\x00\x00\x00\x00\x00\x04@\x00\x00\x00\x00\x00\x00\x0c@\x00\
    \x00\x00\x00\x00\x00\x12@\x15\x04\x19,5\x00\x18\x06schema\x15\x02\x00\x15\x0a%\x02\x18\x01c\x00\x16\x08\x19\
    \x1c\x19\x1c&\x00\x1c\x15\x0a\x19%\x06\x00\x19\x18\x01c\x15\x00\x16\x08\x16~\x16~&\x08I\x1c\x15\x00\x15\x00\
    \x15\x02\x00<)\x06\x19&\x00\x08\x00\x00\x00\x16~\x16\x08&\x08\x16~\x00( parquet-cpp-arrow version 26.0.1\x19\
    \x1c\x1c\x00\x00\x00z\x00\x00\x00PAR1";

#[test]
fn a_flipped_byte_of_a_page_with_a_checksum_is_refused() {
    let here = Here::new();
    here.write("whole.parquet", WITH_CHECKSUM);
    assert_eq!(here.rows("SELECT sum(c) FROM 'whole.parquet'"), "12.0\n");
    let mut flipped = WITH_CHECKSUM.to_vec();
    flipped[41] ^= 1;
    here.write("d/a.parquet", WITH_CHECKSUM).write("d/b.parquet", flipped);
    says(&here.refused("SELECT sum(c) FROM 'd/'"), &["d/b.parquet", "CRC"]);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn a_folder_is_all_of_its_files_but_hidden_ones() {
    let here = Here::new();
    for name in ["t/a.csv", "t/_t.csv", "t/.b.csv", "t/_temporary/0/x.csv", "t/.git/x.csv"] {
        here.write(name, "x\n1\n");
    }
    here.write("t/_SUCCESS", "").write("t/_tmp.parquet", "?").write("t/z.csv.gz", gzip("x\n2\n"));
    for folder in ["t/", "t", "t/*", "t/*.csv*"] {
        assert_eq!(here.rows(&format!("SELECT count(*), sum(x) FROM '{folder}'")), "2,3\n", "{folder}");
    }
    assert_eq!(here.rows("SELECT count(*) FROM 't/_*.csv'"), "1\n");
    assert_eq!(here.rows("SELECT count(*) FROM 't/_temporary/'"), "1\n");
    let columns = here.rows("SHOW COLUMNS FROM 't/'");
    says(&columns, &["t/,x,Int64,YES"]);
    for foreign in ["t/data.parquet", "t/README.txt", "t/notes.docx", "t/x.tsv"] {
        here.write(foreign, "x\n1\n");
        let said = here.refused("SELECT count(*) FROM 't/'");
        says(&said, &[foreign, "one format"]);
        std::fs::remove_file(here.path().join(foreign)).unwrap();
    }
    here.write("u/part-0", "x\n1\n").write("u/part-1", "x\n2\n");
    assert_eq!(here.rows_of("url = 'u'\nformat = 'csv'", "SELECT sum(x) FROM t"), "3\n");
}

#[test]
fn folders_are_read_to_the_bottom_and_patterns_as_far_as_they_say() {
    let here = Here::new();
    for name in ["d/x.csv", "d/sub/y.csv", "g/a/x.csv", "g/b/x.csv", "g/b/c/x.csv"] {
        here.write(name, "x\n1\n");
    }
    for day in ["2026-01-01", "2026-01-02", "2026-01-11"] {
        here.batch(&format!("spark/day={day}/p.parquet"), &[("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    }
    for (location, files) in [
        ("d/", 2),
        ("d", 2),
        ("g/*/x.csv", 2),
        ("g/**/*.csv", 3),
        ("g/**", 3),
        ("g/b/", 2),
        ("g/?/", 3),
        ("spark", 3),
        ("spark/day=2026-01-0*/*.parquet", 2),
        ("spark/day=2026-01-0*", 2),
        ("spark/day=2026-01-[01][12]/*.parquet", 3),
        ("spark/**/*.parquet", 3),
    ] {
        assert_eq!(here.rows(&format!("SELECT count(*) FROM '{location}'")), format!("{files}\n"), "{location}");
    }
    assert_eq!(here.rows("SELECT day FROM 'spark/day=*1/*.parquet' WHERE day < '2026-01-05'"), "2026-01-01\n");
    says(&here.refused("SELECT * FROM 'spark/*.parquet'"), &["spark/*.parquet", "there is no file there"]);
    assert_eq!(here.rows_of("url = 'd/'\nrecursive = false", "SELECT count(*) FROM t"), "1\n");
    assert_eq!(here.rows_of("url = 'spark/'\nrecursive = false", "SELECT count(*) FROM t"), "3\n");
}

#[test]
fn files_are_what_the_listing_found_whatever_their_names() {
    let here = Here::new();
    for (value, name) in
        [r"n/p[1].csv", "n/p1.csv", r"n/a\..\..\x.csv", "n/a b#c?.csv", "n/50%25.csv"].iter().enumerate()
    {
        here.write(name, format!("x\n{}\n", 1 << value));
    }
    assert_eq!(here.rows("SELECT count(*), sum(x) FROM 'n/'"), "5,31\n");
    assert_eq!(here.rows("SELECT x FROM 'n/p[[]1].csv'"), "1\n");
    std::fs::remove_file(here.path().join("n/p1.csv")).unwrap();
    assert_eq!(here.rows("SELECT x FROM 'n/p[1].csv'"), "1\n", "where nothing matches, the name itself");
    assert_eq!(here.rows(r"SELECT x FROM 'n/a\..\..\x.csv'"), "4\n");
    here.write(r"n/..\x.csv", "x\n32\n");
    assert_eq!(here.rows(r"SELECT x FROM 'n/..\x.csv'"), "32\n");
    assert_eq!(here.rows("SELECT x FROM 'n/50%25.csv'"), "16\n");
}

#[test]
fn tables_whose_log_says_which_files_count_are_refused() {
    let here = Here::new();
    let one = |name: &str| {
        here.batch(name, &[("x", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    };
    for name in ["delta/a.parquet", "delta/day=1/a.parquet", "hudi/a.parquet", "ice/data/a.parquet", "beside/a.parquet"]
    {
        one(name);
    }
    here.write("delta/_delta_log/0.json", "{}").write("hudi/.hoodie/hoodie.properties", "x");
    here.write("ice/metadata/v1.metadata.json", "{}").write("beside/other/_delta_log/0.json", "{}");
    for (location, format) in [
        ("delta/", "Delta"),
        ("delta", "Delta"),
        ("delta/*.parquet", "Delta"),
        ("delta/day=1/", "Delta"),
        ("hudi/", "Hudi"),
        ("ice/", "Iceberg"),
    ] {
        says(&here.refused(&format!("SELECT count(*) FROM '{location}'")), &[location, format, "Parquet"]);
    }
    assert_eq!(here.rows("SELECT count(*) FROM 'beside/'"), "1\n");
}

#[test]
fn ids_that_are_decimals_or_bytes_are_scored_as_check_says() {
    let here = Here::new();
    let mut log = "who,what,treated,outcome\n".to_owned();
    for row in 0..200 {
        log += &format!("{},i{},{},{}\n", row % 10, row % 7, row % 3 == 0, if row % 3 == 0 { row % 2 } else { 0 });
    }
    here.write("log/a.csv", log);
    let who = Decimal128Array::from(vec![3, 4]).with_precision_and_scale(38, 0).unwrap();
    let what = BinaryArray::from_iter_values(["i1", "i2"]);
    here.batch("in/day=1/a.parquet", &[("who", Arc::new(who) as ArrayRef), ("what", Arc::new(what) as ArrayRef)]);
    here.write("in/day=1/empty.parquet", "");
    let job = "name = 'j'\n[tables.log]\nurl = 'log/'\n[tables.later]\nurl = 'in/'\n[columns]\nuser = 'who'\nitem = 'what'\n\
               treated = 'treated'\noutcome = 'outcome'\n[train]\npreset = 'dr-v2'\noutput = 'model/'\n[train.data]\n\
               train = 'SELECT * FROM log'\nvalidation = 'SELECT * FROM log'\n[train.model]\ndim = 4\n[train.optimizer]\n\
               epochs = 1\nbatch_size = 64\n[score]\ntable = 'later'\noutput = 'out/'\n";
    here.write("job.toml", job);
    succeed(&mut here.run(&["train", "job.toml", "--device", "cpu"]));
    succeed(&mut here.run(&["check", "job.toml"]));
    succeed(&mut here.run(&["score", "job.toml"]));
    assert_eq!(here.rows("SELECT count(*), count(prediction), min(day) FROM 'out/'"), "2,2,1\n");
    let double = Arc::new(Float64Array::from(vec![3.0])) as ArrayRef;
    let text = Arc::new(StringArray::from(vec!["i1"])) as ArrayRef;
    here.batch("in/day=1/a.parquet", &[("who", double), ("what", text)]);
    for command in ["check", "score"] {
        let (code, _) = fail(&mut here.run(&[command, "job.toml"]));
        assert_eq!(code, 2, "{command}");
    }

    // A name that would lead out of the folder stays a name in it.
    std::fs::remove_dir_all(here.path().join("in")).unwrap();
    std::fs::remove_dir_all(here.path().join("out")).unwrap();
    here.write(r"in/a\..\..\x.csv", "who,what\n3,i1\n")
        .write("in/p[1].csv", "who,what\n4,i1\n")
        .write("in/p1.csv", "who,what\n5,i1\n");
    succeed(&mut here.run(&["score", "job.toml"]));
    assert_eq!(here.rows("SELECT count(*), sum(who) FROM 'out/'"), "3,12\n");
    assert!(!here.path().join("x.parquet").exists());
}

#[test]
fn times_without_a_zone_are_of_the_sessions() {
    let here = Here::new();
    here.write("utc.toml", "name = 'j'\n").write("berlin.toml", "name = 'j'\n[session]\ntime_zone = '+02:00'\n");
    let query = "SELECT to_unixtime(CAST('2026-07-01T12:00:00' AS TIMESTAMPTZ))";
    let of = |job: &str| here.rows_with(&["--job", job], query);
    assert_eq!((of("utc.toml").as_str(), of("berlin.toml").as_str()), ("1782907200\n", "1782900000\n"));
    here.write("bad.toml", "name = 'j'\n[session]\ntime_zone = 'Mars'\n");
    says(&here.refuses(&["sql", "--job", "bad.toml", "-c", "SELECT 1"]), &["time_zone = \"Mars\""]);
}
