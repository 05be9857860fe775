//! `counterweight sql`, as it is called.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sql(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterweight"));
    command.current_dir(folder).arg("sql").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn stdout(folder: &Path, arguments: &[&str]) -> String {
    let output = sql(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn csv(folder: &Path, query: &str) -> String {
    stdout(folder, &["--format", "csv", "--no-header", "-c", query])
}

/// What a failing run says, and its exit status.
fn failure(folder: &Path, arguments: &[&str]) -> (String, i32) {
    let output = sql(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

fn pipe(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterweight"));
    let command = command.current_dir(folder).arg("sql").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const VALUES: &str = "SELECT * FROM (VALUES (1, 0.5, 'a,b'), (2, NULL, 'c')) AS t (n, x, s)";

#[test]
fn every_format() {
    let here = tempfile::tempdir().unwrap();
    for (format, expected) in [
        (
            "table",
            "+---+------+-----+\n| n | x    | s   |\n+---+------+-----+\n| 1 | 0.5  | a,b |\n| 2 | NULL | c   |\n+---+------+-----+\n",
        ),
        ("csv", "n,x,s\n1,0.5,\"a,b\"\n2,,c\n"),
        ("tsv", "n\tx\ts\n1\t0.5\ta,b\n2\t\tc\n"),
        ("json", "[{\"n\":1,\"x\":0.5,\"s\":\"a,b\"},{\"n\":2,\"x\":null,\"s\":\"c\"}]\n"),
        ("ndjson", "{\"n\":1,\"x\":0.5,\"s\":\"a,b\"}\n{\"n\":2,\"x\":null,\"s\":\"c\"}\n"),
    ] {
        assert_eq!(stdout(here.path(), &["--format", format, "-c", VALUES]), expected);
    }
    assert_eq!(stdout(here.path(), &["--format", "csv", "--no-header", "-c", VALUES]), "1,0.5,\"a,b\"\n2,,c\n");
    let parquet = sql(here.path(), &["--format", "parquet", "-c", VALUES]).stdout;
    std::fs::write(here.path().join("x.parquet"), parquet).unwrap();
    assert_eq!(csv(here.path(), "SELECT * FROM 'x.parquet'"), "1,0.5,\"a,b\"\n2,,c\n");
}

#[test]
fn a_result_without_rows_still_has_columns() {
    let here = tempfile::tempdir().unwrap();
    let query = "SELECT 1 AS n WHERE false";
    for (format, expected) in
        [("table", "+---+\n| n |\n+---+\n+---+\n"), ("csv", "n\n"), ("json", "[]\n"), ("ndjson", "")]
    {
        assert_eq!(stdout(here.path(), &["--format", format, "-c", query]), expected);
    }
}

#[test]
fn tables_show_readable_floats_and_no_more_rows_than_asked_for() {
    let here = tempfile::tempdir().unwrap();
    let output =
        sql(here.path(), &["--max-rows", "2", "-c", "SELECT value / 3.0 AS x FROM range(1, 100000) ORDER BY 1"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table, "+----------+\n| x        |\n+----------+\n| 0.333333 |\n| 0.666667 |\n+----------+\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("only the first 2 rows"));
    let all = stdout(here.path(), &["--max-rows", "0", "-c", "SELECT * FROM range(3000)"]);
    assert_eq!(all.lines().count(), 3004);
}

#[test]
fn commands_and_files_run_in_the_order_given() {
    let here = tempfile::tempdir().unwrap();
    write(here.path(), "a.sql", "-- ; makes\nCREATE TABLE t AS SELECT 1 AS n;\nINSERT INTO t VALUES (2);\n");
    write(here.path(), "b.sql", "SELECT ';' AS s;\n\nSELECT sum(n) FROM t");
    let arguments = [
        "--format",
        "csv",
        "--no-header",
        "-c",
        "SELECT 0",
        "-f",
        "a.sql",
        "-c",
        "SELECT n FROM t ORDER BY n",
        "-f",
        "b.sql",
    ];
    assert_eq!(stdout(here.path(), &arguments), "0\n1\n2\n;\n3\n");
}

#[test]
fn the_first_error_ends_the_run_and_is_located() {
    let here = tempfile::tempdir().unwrap();
    write(here.path(), "a.sql", "SELECT 1;\n\nSELECT x;\nSELECT 3;\n");
    let output = sql(here.path(), &["--format", "csv", "--no-header", "-f", "a.sql", "-c", "SELECT 4"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("a.sql:3: statement 2: ") && error.contains("No field named x"), "{error}");
    assert_eq!((String::from_utf8(output.stdout).unwrap().as_str(), output.status.code()), ("1\n", Some(2)));

    write(here.path(), "b.sql", "SELECT 1;\nSELEC 2;\n");
    let output = sql(here.path(), &["-c", "SELECT 0", "-f", "b.sql"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("b.sql:2: statement 2: Expected: an SQL statement, found: SELEC"), "{error}");
    assert!(output.stdout.is_empty(), "nothing runs where something does not parse");
    assert_eq!(output.status.code(), Some(2));

    let (error, _) = failure(here.path(), &["-f", "c.sql"]);
    assert!(error.contains("cannot read") && error.contains("c.sql"), "{error}");
}

#[test]
fn standard_input_is_read_where_nothing_else_is_given() {
    let here = tempfile::tempdir().unwrap();
    let arguments = ["--format", "csv", "--no-header"];
    assert_eq!(pipe(here.path(), &arguments, "SELECT 1;\nSELECT\n2").stdout, b"1\n2\n");
    assert_eq!(pipe(here.path(), &["--format", "ndjson", "-f", "-"], "SELECT 1 AS a").stdout, b"{\"a\":1}\n");
    let failed = pipe(here.path(), &[], "SELECT 1 +");
    assert!(!failed.status.success());
    assert!(String::from_utf8(failed.stderr).unwrap().contains("stdin:1: "));
}

#[test]
fn an_output_appears_whole_or_not_at_all() {
    let here = tempfile::tempdir().unwrap();
    for name in ["x.parquet", "x.csv", "x.tsv", "x.ndjson", "sub/x.parquet"] {
        assert_eq!(stdout(here.path(), &["-c", VALUES, "--output", name]), "");
        assert_eq!(csv(here.path(), &format!("SELECT n, x, s FROM '{name}' ORDER BY n")), "1,0.5,\"a,b\"\n2,,c\n");
    }
    let before = names(here.path());
    let fails_late = "SELECT 1 / (value - 500000) AS x FROM range(1000000)";
    for arguments in [
        &["-c", fails_late, "--output", "new.csv"][..],
        &["-c", "SELECT 1", "-c", "SELECT 2", "--output", "new.csv"],
        &["-c", "SELECT 1", "-c", "SELECT x", "--output", "new.parquet"],
        &["-c", "CREATE TABLE t (a INT)", "--output", "new.parquet"],
        &["-c", fails_late, "--output", "x.csv"],
    ] {
        failure(here.path(), arguments);
    }
    assert_eq!(names(here.path()), before);
    assert_eq!(csv(here.path(), "SELECT count(*) FROM 'x.csv'"), "2\n", "what was there stays");

    let (error, status) = failure(here.path(), &["-c", "SELECT 1", "--output", "x.parqet"]);
    assert!(status == 2 && error.contains("did you mean \"parquet\"?"), "{error}");
}

#[test]
fn tables_by_path_in_every_format_and_compression() {
    let here = tempfile::tempdir().unwrap();
    let copies = [
        ("x.parquet", "PARQUET", ""),
        ("x.csv", "CSV", ""),
        ("x.tsv", "CSV", "OPTIONS ('format.delimiter' '\t')"),
        ("x.ndjson", "JSON", ""),
        ("x.arrow", "ARROW", ""),
        ("x.csv.gz", "CSV", "OPTIONS ('format.compression' 'gzip')"),
        ("x.csv.zst", "CSV", "OPTIONS ('format.compression' 'zstd')"),
        ("x.ndjson.gz", "JSON", "OPTIONS ('format.compression' 'gzip')"),
        ("x.ndjson.zst", "JSON", "OPTIONS ('format.compression' 'zstd')"),
    ];
    for (name, format, options) in copies {
        assert_eq!(csv(here.path(), &format!("COPY ({VALUES}) TO '{name}' STORED AS {format} {options}")), "");
        assert_eq!(csv(here.path(), &format!("SELECT n, x, s FROM '{name}'")), "1,0.5,\"a,b\"\n2,,c\n", "{name}");
    }
    let url = format!("file://{}/x.*ndjson", here.path().display());
    assert_eq!(csv(here.path(), &format!("SELECT count(*) FROM '{url}'")), "2\n");
}

#[test]
fn folders_globs_and_partitions() {
    let here = tempfile::tempdir().unwrap();
    for (name, number) in [("a.csv", 1), ("b.csv", 2)] {
        write(here.path(), &format!("flat/{name}"), &format!("n\n{number}\n"));
        write(here.path(), &format!("parts/day=2026-01-0{number}/x.csv"), &format!("n\n{number}\n"));
    }
    write(here.path(), "flat/_SUCCESS", "");
    assert_eq!(csv(here.path(), "SELECT sum(n) FROM 'flat/'"), "3\n");
    assert_eq!(csv(here.path(), "SELECT sum(n) FROM 'flat/b*.csv'"), "2\n");
    let query = "SELECT day, n FROM 'parts/' WHERE day > '2026-01-01'";
    assert_eq!(csv(here.path(), query), "2026-01-02,2\n");
}

#[test]
fn external_tables_and_copies() {
    let here = tempfile::tempdir().unwrap();
    write(here.path(), "x.csv", "n\n1\n2\n");
    let script = "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x.csv' OPTIONS ('format.has_header' 'true');
                  COPY (SELECT n * 10 AS n FROM x) TO 'y.parquet';
                  SELECT sum(n) FROM 'y.parquet'";
    assert_eq!(csv(here.path(), script), "30\n");

    for missing in [
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 'nowhere/'",
        "CREATE EXTERNAL TABLE x (n INT) STORED AS CSV LOCATION 'nowhere.csv'",
        "SELECT * FROM 'nowhere.csv'",
    ] {
        let (error, status) = failure(here.path(), &["-c", missing]);
        assert!(
            error.contains("cannot open the table at nowhere") && error.contains("there is no file there"),
            "{error}"
        );
        assert_eq!(status, 2);
    }
    csv(here.path(), "CREATE EXTERNAL TABLE x (n INT) STORED AS PARQUET LOCATION 'new/'; INSERT INTO x VALUES (7)");
    assert_eq!(csv(here.path(), "SELECT n FROM 'new/'"), "7\n");
}

#[test]
fn mistakes_are_explained() {
    let here = tempfile::tempdir().unwrap();
    write(here.path(), "x.docx", "?");
    for (query, message) in [
        ("SELECT * FROM 'x.docx'", "the extension of \"x.docx\" is no format that is read here"),
        ("SELECT median_of(1)", "Invalid function 'median_of'"),
        ("SELECT averge(1)", "Did you mean"),
        ("SELECT * FROM nosuch", "nosuch"),
        ("SELECT 1; SELECT 'x", "-c:1: Unterminated string literal"),
        ("SELECT * FROM 'ftp://host/x.csv'", "s3://"),
    ] {
        let (error, _) = failure(here.path(), &["-c", query]);
        assert!(error.contains(message) && !error.contains("External error"), "{error}");
    }
    let (error, status) = failure(here.path(), &["--memory-limit", "10XB", "-c", "SELECT 1"]);
    assert!(status == 2 && error.contains("10XB") && error.contains("512MB"), "{error}");
}

#[test]
fn a_sort_larger_than_the_memory_limit_spills() {
    let here = tempfile::tempdir().unwrap();
    let query =
        "SELECT count(*) FROM (SELECT value, sha256(value::VARCHAR) AS h FROM range(1000000) ORDER BY h LIMIT 900000)";
    let sort = "SELECT value, md5(value::VARCHAR) AS h FROM range(2000000) ORDER BY h";
    let limited = ["--memory-limit", "60MB", "--threads", "1", "-c", sort, "--output", "sorted.parquet"];
    stdout(here.path(), &limited);
    assert_eq!(csv(here.path(), "SELECT count(*) FROM 'sorted.parquet'"), "2000000\n");
    let (error, _) = failure(here.path(), &["--memory-limit", "1MB", "-c", query]);
    assert!(error.contains("Resources exhausted"), "{error}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let here = tempfile::tempdir().unwrap();
    let script = format!(
        "{} sql --format csv -c 'SELECT * FROM range(5000000)' | head -n 2; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_counterweight")
    );
    let output = Command::new("bash").current_dir(here.path()).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"value\n0\n");
}

#[test]
fn the_tables_of_a_job() {
    let here = tempfile::tempdir().unwrap();
    write(here.path(), "data/x.csv", "n\n4\n");
    write(here.path(), "job.toml", "name = 'j'\n[vars]\ndir = 'else'\n[tables.x]\nurl = '${dir}/x.csv'\n");
    let arguments =
        ["--job", "job.toml", "--set", "vars.dir=data", "--format", "csv", "--no-header", "-c", "SELECT n FROM x"];
    assert_eq!(stdout(here.path(), &arguments), "4\n");
    let (error, _) = failure(here.path(), &["--job", "job.toml", "-c", "SELECT n FROM x"]);
    assert!(error.contains("[tables.x]"), "{error}");
}

/// Types into the shell through a pseudo-terminal of util-linux's `script`.
#[test]
fn the_shell_keeps_its_history_in_the_state_directory() {
    let here = tempfile::tempdir().unwrap();
    let shell = format!("{} sql", env!("CARGO_BIN_EXE_counterweight"));
    let mut command = Command::new("script");
    command.current_dir(here.path()).args(["-qec", &shell, "/dev/null"]).env("TERM", "dumb");
    command.env("XDG_STATE_HOME", here.path().join("state"));
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        eprintln!("skipped: there is no `script` here");
        return;
    };
    let input = "SELECT 40 +\n2 AS answer;\nSELECT x;\n\\d\n\\nope\n\\?\n\\q\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    for text in ["| 42 ", "1 rows in", "No field named x", "table_name", "\\nope is no command", "Ctrl-D"] {
        assert!(seen.contains(text), "{text} is not in {seen}");
    }
    assert!(output.status.success(), "{seen}");
    let history = std::fs::read_to_string(here.path().join("state/counterweight/history")).unwrap();
    assert!(history.contains("answer") && history.contains("SELECT x;"), "{history}");
}

#[test]
fn a_comment_alone_runs_nothing() {
    let here = tempfile::tempdir().unwrap();
    for text in ["-- note", "", "/* note */;"] {
        let output = sql(here.path(), &["-c", text]);
        assert!(output.status.success() && output.stdout.is_empty(), "{text:?}");
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(notes.contains("there is no statement"), "{notes}");
    }
    assert_eq!(csv(here.path(), "-- one\nSELECT 1"), "1\n");
}

#[test]
fn functions_are_shown_ours_among_them() {
    let here = tempfile::tempdir().unwrap();
    let shown = csv(here.path(), "SHOW FUNCTIONS");
    for name in ["bmse", "balance_drift", "skipped_for", "abs", "coalesce"] {
        assert!(shown.lines().any(|line| line.starts_with(&format!("{name},"))), "{name}");
    }
    assert!(csv(here.path(), "SHOW FUNCTIONS LIKE 'bmse%'").lines().any(|line| line.starts_with("bmse_change,")));
}
