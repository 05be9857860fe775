//! What the documents say is so: the reference is current, and the examples run.

use counterweight::experiment::Experiment;
use counterweight::job::Job;

use crate::support::{counterweight, repository, succeed};

#[test]
fn the_sql_reference_is_current() {
    let generated = succeed(counterweight().args(["functions", "--format", "markdown"]));
    let committed = std::fs::read_to_string(repository("docs/sql-reference.md")).unwrap();
    assert!(committed == generated, "run `counterweight functions --format markdown > docs/sql-reference.md`");
}

/// The blocks of code of that language in a document.
fn blocks(path: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository(path)).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A folder with the log that the README's first command writes.
fn simulated() -> tempfile::TempDir {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let arguments = readme.lines().find_map(|line| line.strip_prefix("    counterweight simulate ")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    succeed(counterweight().current_dir(&folder).arg("simulate").args(arguments.split_whitespace()));
    folder
}

#[test]
fn the_readmes_queries_print_what_it_shows() {
    let folder = simulated();
    let (queries, outputs) = (blocks("README.md", "sql"), blocks("README.md", "text"));
    assert_eq!((queries.len(), outputs.len()), (2, 2));
    for (query, shown) in queries.iter().zip(outputs) {
        assert_eq!(succeed(counterweight().current_dir(&folder).args(["sql", "-c", query])), shown, "{query}");
    }
}

#[test]
fn the_guides_queries_run() {
    let folder = simulated();
    let queries = blocks("docs/guide.md", "sql");
    assert_eq!(queries.len(), 3);
    for query in queries {
        let rows = succeed(counterweight().current_dir(&folder).args(["sql", "--format", "ndjson", "-c", &query]));
        assert!(!rows.is_empty() && !rows.contains("null"), "{query}\n{rows}");
    }
}

#[test]
fn the_documents_jobs_are_sound() {
    let jobs = blocks("README.md", "toml");
    assert_eq!(jobs.len(), 1);
    for job in jobs {
        Job::parse(&job, &[]).unwrap();
    }
    for example in ["demo", "coat", "yahoo-r3", "kuairec", "simulated"].map(|name| format!("examples/{name}.toml")) {
        Job::load(&repository(&example), &[]).unwrap();
    }
    for name in [
        "coat-experiment",
        "coat-lambda",
        "coat-published-splits",
        "coat-tuned",
        "simulated-experiment",
        "simulated-lambda",
        "simulated-worlds",
    ] {
        Experiment::load(&repository(&format!("examples/{name}.toml")), &[]).unwrap();
    }
}
