//! Stores that fail, refuse and are slow; credentials, secrets, and locations that are out of bounds.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use counterweight::object_store::aws::AmazonS3Builder;
use counterweight::object_store::signer::Signer;

use crate::proxy::{Fault, Proxy};
use crate::s3_server::S3Server;
use crate::support::{counterweight, fail, succeed, write_log};

const ROWS: usize = 60_000;
const COUNT: &str = "SELECT count(*) AS n, sum(x) AS s FROM 's3://bucket/log.csv'";
const EXPIRED: &str = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";

/// A server that holds `log.csv`, of one column with the numbers below [`ROWS`].
fn server() -> S3Server {
    let server = S3Server::start("bucket");
    let rows: String = (0..ROWS).map(|row| format!("{row}\n")).collect();
    server.write("bucket", "log.csv", format!("x\n{rows}").as_bytes());
    server
}

/// A command whose stores are behind `proxy`.
fn through(proxy: &Proxy, server: &S3Server) -> Command {
    let mut command = counterweight();
    command.envs(server.environment()).env("AWS_ENDPOINT_URL", proxy.endpoint());
    command
}

fn count(proxy: &Proxy, server: &S3Server, timeout: u32) -> Command {
    let mut command = through(proxy, server);
    command.args(["--storage-timeout", &timeout.to_string(), "sql", "--format", "csv", "-c", COUNT]);
    command
}

fn assert_counted(output: &str) {
    let sum = ROWS * (ROWS - 1) / 2;
    assert_eq!(output, format!("n,s\n{ROWS},{sum}\n"));
}

#[test]
fn a_store_that_fails_or_is_silent_throughout_is_given_up_in_time() {
    let server = server();
    for (fault, trouble) in [
        (Fault::Status("503 Service Unavailable", "", ""), "answered 503 Service Unavailable"),
        (Fault::Status("503 Slow Down", "retry-after: 100\r\n", ""), "answered 503 Service Unavailable"),
        (Fault::Status("429 Too Many Requests", "", ""), "answered 429 Too Many Requests"),
        (Fault::Silence, "gave no answer for 1s"),
        (Fault::Cut(0), "broke the connection off"),
    ] {
        let proxy = Proxy::start(&server.endpoint(), move |_, _| fault);
        let start = Instant::now();
        let (code, said) = fail(&mut count(&proxy, &server, 3));
        let elapsed = start.elapsed();
        assert_eq!(code, 1, "{said}");
        assert!(elapsed > Duration::from_secs(2) && elapsed < Duration::from_secs(8), "{fault:?}: {elapsed:?}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(trouble) && last.contains("given up after 3s"), "{fault:?}: {said}");
        assert!(last.contains("--storage-timeout") && last.contains("s3://bucket"), "{said}");
        let warned = said.lines().filter(|line| line.contains("WARN") && line.contains(trouble)).count();
        assert!(warned >= 1 && warned <= proxy.requests(), "{said}");
        let is_repeated = !matches!(fault, Fault::Status(_, "retry-after: 100\r\n", _));
        assert!(proxy.requests() >= if is_repeated { 2 } else { 1 }, "{fault:?}: {}", proxy.requests());
    }
}

#[test]
fn the_time_is_a_key_of_the_job_too() {
    let (server, folder) = (server(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&server.endpoint(), |_, _| Fault::Silence);
    let job = "name = \"x\"\n[storage]\ntimeout = 2\n[tables.log]\nurl = \"s3://bucket/log.csv\"\n";
    let job_file = folder.path().join("job.toml");
    fs::write(&job_file, job).unwrap();
    let start = Instant::now();
    let output = through(&proxy, &server).arg("check").arg(&job_file).output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("tables.log") && told.contains("given up after 2s"), "{told}");
    fs::write(&job_file, job.replace('2', "0")).unwrap();
    let (code, said) = fail(through(&proxy, &server).arg("check").arg(&job_file));
    assert!(code == 2 && said.contains("storage.timeout = 0"), "{said}");
}

#[test]
fn what_fails_for_a_while_is_asked_again() {
    let server = server();
    let busy = "503 Service Unavailable";
    for fault in [
        Fault::Status(busy, "", ""),
        Fault::Status("500 Internal Server Error", "", ""),
        Fault::Silence,
        Fault::Cut(0),
        Fault::Cut(120),
    ] {
        let proxy = Proxy::start(&server.endpoint(), move |_, before| if before < 2 { fault } else { Fault::None });
        assert_counted(&succeed(&mut count(&proxy, &server, 9)));
    }
    let proxy = Proxy::start(&server.endpoint(), |_, before| match before {
        0 => Fault::Status("429 Too Many Requests", "retry-after: 2\r\n", ""),
        _ => Fault::None,
    });
    let start = Instant::now();
    assert_counted(&succeed(&mut count(&proxy, &server, 3)));
    assert!(start.elapsed() >= Duration::from_secs(2), "it is asked when it said");
}

#[test]
fn a_body_that_is_cut_or_slow_is_read_to_its_end() {
    let server = server();
    let of_body = |request: &str| request.starts_with("GET /bucket/log.csv");
    let cut = Proxy::start(&server.endpoint(), move |request, before| match of_body(request) && before % 2 == 0 {
        true => Fault::Cut(100_000),
        false => Fault::None,
    });
    assert_counted(&succeed(&mut count(&cut, &server, 3)));
    // As a whole it takes longer than any answer may take.
    let slow = Proxy::start(&server.endpoint(), move |request, _| match of_body(request) {
        true => Fault::Slow(16),
        false => Fault::None,
    });
    let start = Instant::now();
    assert_counted(&succeed(&mut count(&slow, &server, 3)));
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn credentials_that_have_expired_are_said_to_be() {
    let server = server();
    for status in ["400 Bad Request", "403 Forbidden"] {
        let proxy = Proxy::start(&server.endpoint(), move |request, _| match request.starts_with("HEAD") {
            true => Fault::Status(status, "", ""),
            false => Fault::Status(status, "", EXPIRED),
        });
        for name in ["log.csv", "logs/", "logs/*.csv"] {
            let select = format!("SELECT * FROM 's3://bucket/{name}'");
            let (code, said) = fail(through(&proxy, &server).args(["sql", "-c", &select]));
            assert_eq!(code, 2, "{said}");
            assert!(said.contains("credentials for s3://bucket have expired"), "{name}: {said}");
        }
    }
}

/// A command without credentials, whose home is `home`.
fn without_credentials(home: &Path) -> Command {
    let mut command = counterweight();
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

#[test]
fn without_credentials_a_store_is_not_asked_for() {
    let home = tempfile::tempdir().unwrap();
    for (url, cures) in [
        ("s3://bucket/x.csv", ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SKIP_SIGNATURE=true"]),
        ("gs://bucket/x.csv", ["gcloud auth", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SKIP_SIGNATURE=true"]),
        ("az://container/x.csv", ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_SKIP_SIGNATURE=true"]),
    ] {
        let start = Instant::now();
        let select = format!("SELECT * FROM '{url}'");
        let (code, said) = fail(without_credentials(home.path()).args(["sql", "-c", &select]));
        assert_eq!(code, 2, "{said}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let store = &url[..url.len() - "/x.csv".len()];
        assert!(said.contains(&format!("no credentials for {store}: ")), "{said}");
        assert!(cures.iter().all(|cure| said.contains(cure)), "{said}");
    }
}

#[test]
fn profiles_are_read_as_the_aws_tools_read_them() {
    let (server, home) = (server(), tempfile::tempdir().unwrap());
    let given = server.environment();
    let value = |name: &str| given.iter().find(|(key, _)| *key == name).unwrap().1;
    fs::create_dir(home.path().join(".aws")).unwrap();
    let config = format!(
        "[profile work]\nregion = {}\nendpoint_url = {}\n[profile process]\ncredential_process = cat {}\nendpoint_url = {1}\n",
        value("AWS_REGION"),
        value("AWS_ENDPOINT_URL"),
        home.path().join("said.json").display(),
    );
    let (id, secret) = (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"));
    let said = format!("{{\"Version\": 1, \"AccessKeyId\": \"{id}\", \"SecretAccessKey\": \"{secret}\"}}");
    let credentials = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    for (name, text) in [(".aws/config", config), (".aws/credentials", credentials), ("said.json", said)] {
        fs::write(home.path().join(name), text).unwrap();
    }
    for profile in ["work", "process"] {
        let mut command = without_credentials(home.path());
        command.env("AWS_PROFILE", profile).args(["sql", "--format", "csv", "-c", COUNT]);
        assert_counted(&succeed(&mut command));
    }
    let (code, said) = fail(without_credentials(home.path()).env("AWS_PROFILE", "wrok").args(["sql", "-c", COUNT]));
    assert!(code == 2 && said.contains("did you mean \"work\"?"), "{said}");
}

/// A URL of `name` that is signed for GET.
async fn signed(server: &S3Server, name: &str) -> String {
    let mut store = AmazonS3Builder::new().with_bucket_name("bucket").with_allow_http(true);
    for (key, value) in server.environment() {
        store = store.with_config(key.to_ascii_lowercase().parse().unwrap(), value);
    }
    let store = store.build().unwrap();
    store.signed_url("GET".parse().unwrap(), &name.into(), Duration::from_secs(600)).await.unwrap().to_string()
}

#[tokio::test]
async fn a_signed_url_is_read_and_its_signature_not_shown() {
    let server = server();
    server.write("bucket", "rows.parquet", &parquet());
    let url = signed(&server, "log.csv").await;
    let signature = url.split("X-Amz-Signature=").nth(1).unwrap().to_owned();
    let sql = |url: &str| {
        let mut command = counterweight();
        let sql = format!("SELECT count(*) AS n, sum(x) AS s FROM '{url}'");
        command.args(["sql", "--format", "csv", "-c", &sql]);
        command
    };
    assert_counted(&succeed(&mut sql(&url)));
    let rows = signed(&server, "rows.parquet").await;
    assert_eq!(succeed(&mut sql(&rows)), "n,s\n3,6\n");

    let wrong = url.replace("log.csv", "rows.parquet");
    for wrong in [wrong.clone(), wrong.replace("127.0.0.1", "me:passw0rd@127.0.0.1")] {
        let (_, said) = fail(&mut sql(&wrong));
        assert!(said.contains("rows.parquet"), "{said}");
        for secret in [&signature, "X-Amz", "passw0rd", "counterweight-query:2"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
}

/// A Parquet file of one column with 1, 2 and 3.
fn parquet() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.parquet");
    let select = "SELECT * FROM (VALUES (1), (2), (3)) AS t(x)";
    succeed(counterweight().args(["sql", "-c", select, "--output"]).arg(&file));
    fs::read(&file).unwrap()
}

/// A job over `log.csv` in `folder`, with what is to be hidden in each place that it may stand in.
fn job_with_secrets(folder: &Path, table: &str) -> std::path::PathBuf {
    write_log(folder);
    let job = format!(
        r#"
        name = "secretive"
        [vars]
        dir = "{}"
        [secrets]
        token = "tell-nobody's"
        other = {{ env = "OTHER_SECRET" }}
        [tables.log]
        url = "${{dir}}/log.csv"
        [tables.signed]
        url = "{table}"
        [columns]
        user = "who"
        item = "what"
        treated = "treated"
        outcome = "outcome"
        propensity = "p"
        [train]
        preset = "ips-v2"
        output = "${{dir}}/model/"
        [train.data]
        train = "SELECT * FROM log WHERE who <> ${{token:sql}}"
        validation = "SELECT * FROM log WHERE who <> '${{other}}'"
        [train.model]
        dim = 2
        [train.optimizer]
        epochs = 1
        [train.evaluation]
        metric = "log_loss"
        [audit.all]
        query = "SELECT * FROM log WHERE who <> ${{token:sql}}"
        output = "${{dir}}/audit/"
        "#,
        folder.display()
    );
    let file = folder.join("job.toml");
    fs::write(&file, job).unwrap();
    file
}

fn job_command(job: &Path, name: &str) -> Command {
    let mut command = counterweight();
    command.env("OTHER_SECRET", "nor-this-one").arg(name).arg(job);
    command
}

#[test]
fn secrets_are_hidden_in_all_that_is_shown_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let job = job_with_secrets(folder.path(), "https://me:passw0rd@127.0.0.1:9/x.csv?sig=s1gnature");
    let mut said = String::new();
    let mut run = |command: &mut Command| {
        let Output { status, stdout, stderr } = command.output().unwrap();
        said += &String::from_utf8_lossy(&stdout);
        said += &String::from_utf8_lossy(&stderr);
        status.success()
    };
    assert!(run(&mut job_command(&job, "train")));
    assert!(run(&mut job_command(&job, "audit")));
    assert!(run(job_command(&job, "audit").args(["--format", "json"])));
    assert!(!run(job_command(&job, "check").args(["--storage-timeout", "1"])));
    let mistaken = "audit.all.query=SELECT ${token:sql} + nothing FROM log WHERE '${other}' = who";
    assert!(!run(job_command(&job, "audit").args(["--set", mistaken])));
    let reading = "audit.all.query=SELECT * FROM signed, log WHERE who = ${token:sql}";
    assert!(!run(job_command(&job, "audit").args(["--storage-timeout", "1", "--set", reading])));

    let mut kept = 0;
    let mut folders = vec![folder.path().join("model"), folder.path().join("audit")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    said += &String::from_utf8_lossy(&fs::read(path).unwrap());
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > 5 && said.contains("***"), "{said}");
    for secret in ["tell-nobody", "nor-this-one", "passw0rd", "s1gnature"] {
        let place = said.find(secret).map(|at| &said[at.saturating_sub(300)..(at + 100).min(said.len())]);
        assert_eq!(place, None, "{secret}");
    }
}

#[test]
fn a_secret_that_is_not_set_or_too_short_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let job = job_with_secrets(folder.path(), "x.csv");
    for (set, expected) in [
        ("secrets.token=short", "secrets.token has fewer than 6 characters"),
        ("secrets.token={ env = \"NOT_SET_ANYWHERE\" }", "NOT_SET_ANYWHERE is not set"),
        ("secrets.dir=a-long-one", "secrets.dir is the name of another variable"),
        ("audit.all.query=SELECT ${token:json}", "write ${token}, or ${token:sql}"),
    ] {
        let (code, said) = fail(job_command(&job, "audit").args(["--set", set]));
        assert!(code == 2 && said.contains(expected), "{said}");
        assert!(!said.contains("a-long-one"), "{said}");
    }
}

#[test]
fn a_variable_is_a_value_in_sql() {
    let folder = tempfile::tempdir().unwrap();
    let job = "name = \"x\"\n[vars]\nwho = \"O'Brien\"\n[columns]\ntreated = \"o\"\npropensity = \"p\"\n\
               [audit.all]\nquery = \"SELECT ${who:sql} AS who, true AS o, 0.5 AS p WHERE ${who:sql} = 'O''Brien'\"\n";
    let file = folder.path().join("job.toml");
    fs::write(&file, job).unwrap();
    succeed(counterweight().arg("audit").arg(&file));
    fs::write(&file, job.replace(":sql", "")).unwrap();
    assert_eq!(fail(counterweight().arg("audit").arg(&file)).0, 2);
}

#[test]
fn nothing_is_read_or_written_outside_of_the_locations_that_are_allowed() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let job = job_with_secrets(inside.path(), "unused.csv");
    fs::copy(inside.path().join("log.csv"), outside.path().join("log.csv")).unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
    let (here, there) = (inside.path().display().to_string(), outside.path().display().to_string());
    let run = |name: &str, set: &[String]| {
        let mut command = job_command(&job, name);
        command.args(["--allow-location", &here, "--set", "tables.signed.url=${dir}/log.csv"]);
        command.args(set.iter().flat_map(|set| ["--set", set]));
        command
    };
    for name in ["check", "train", "audit"] {
        succeed(&mut run(name, &[]));
    }
    let score = ["score.output=${dir}/scored/", "score.table=log"].map(str::to_owned);
    succeed(&mut run("score", &score));

    let reads = |url: String| format!("tables.log.url={url}");
    for (name, set) in [
        ("train", reads(format!("{there}/log.csv"))),
        ("audit", reads(format!("{there}/"))),
        ("audit", reads(format!("{there}/*.csv"))),
        ("audit", reads("${dir}/link/log.csv".into())),
        ("audit", reads("${dir}/link/*.csv".into())),
        ("audit", reads(format!("{}/*/log.csv", inside.path().parent().unwrap().display()))),
        ("audit", reads("http://127.0.0.1:9/log.csv".into())),
        ("audit", reads("s3://bucket/log.csv".into())),
        ("audit", format!("audit.all.query=SELECT * FROM '{there}/log.csv'")),
        ("audit", format!("audit.all.output={there}/audit/")),
        ("audit", format!("audit.all.metrics={there}/audit.prom")),
        ("audit", "audit.all.output=${dir}/link/audit/".into()),
        ("audit", format!("session.spill_directory={there}/spill")),
        ("train", format!("train.output={there}/model/")),
        ("score", format!("score.output={there}/scored/")),
        ("score", format!("score.model={there}/model/")),
    ] {
        let mut sets = if name == "score" { score.to_vec() } else { Vec::new() };
        sets.push(set.clone());
        let mut command = run(name, &sets);
        command.envs([("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")]);
        let (code, said) = fail(&mut command);
        assert_eq!(code, 2, "{name} {set}: {said}");
        assert!(said.contains("--allow-location"), "{name} {set}: {said}");
        if !set.starts_with("session") {
            let checked =
                run("check", &sets).envs([("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x")]).output();
            let told = String::from_utf8(checked.unwrap().stdout).unwrap();
            assert!(told.contains("--allow-location"), "check {set}: {told}");
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was written there");
    let mut both = run("audit", &[reads(format!("{there}/log.csv"))]);
    succeed(both.args(["--allow-location", &there]));
}

#[test]
fn sql_of_a_job_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let job = job_with_secrets(folder.path(), "unused.csv");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for statement in [
        format!("COPY (SELECT 1) TO '{}'", path("copied.csv")),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", path("log.csv")),
        "CREATE TABLE t AS SELECT 1".into(),
        "CREATE VIEW t AS SELECT 1".into(),
        "SELECT 1 INTO t".into(),
        "DROP TABLE log".into(),
        "INSERT INTO log SELECT * FROM log".into(),
        "SET datafusion.execution.batch_size = 1".into(),
        "SELECT 1; SELECT 2".into(),
    ] {
        let (code, said) = fail(job_command(&job, "audit").args(["--set", &format!("audit.all.query={statement}")]));
        assert_eq!(code, 2, "{statement}: {said}");
        let (code, said) = fail(job_command(&job, "train").args(["--set", &format!("train.data.train={statement}")]));
        assert_eq!(code, 2, "{statement}: {said}");
    }
    for expected in ["1 AS DOUBLE)); COPY (SELECT 1) TO 'copied.csv'; --", "1 AS DOUBLE)) INTO t --"] {
        let set = format!("tables.log.expect={{ {expected:?} = 1 }}");
        let (code, said) = fail(job_command(&job, "audit").current_dir(folder.path()).args(["--set", &set]));
        assert_eq!(code, 2, "{expected}: {said}");
    }
    assert!(!folder.path().join("copied.csv").exists());
}
