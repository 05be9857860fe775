//! Outputs that would be read as input, or take the place of it.

use std::path::Path as FilePath;

use url::Url;

use super::disk::canonical;
use crate::error::{Result, invalid};
use crate::job::Job;
use crate::table::{Location, Shape};

/// Refuses an output of `job`, a folder or a file that it gives under `key`, where an input table of the job is read from the
/// same place. Links are followed.
///
/// # Errors
/// The message names both.
pub fn refuse_input(job: &Job, key: &str, output: &Url) -> Result<()> {
    let is_folder = output.path().ends_with('/');
    let to = parts(&Location::of(output, Shape::Folder)?)?;
    let scored = job.score.as_ref().filter(|_| key == "score.output");
    for (name, spec) in &job.tables {
        let from = Location::parse(&spec.url)?;
        // What the job scores may be one of its tables, but not the one that it is scored from.
        let is_whole = !matches!(from.shape, Shape::Glob { .. }) && parts(&from)? == to;
        let is_scored = scored.is_some_and(|score| score.table.as_ref() != Some(name)) && is_whole;
        if !is_scored && reads(&from, &to, is_folder)? {
            invalid!(
                "{key} = {output} lies where tables.{name} is read from, {}: write to a place outside of it",
                spec.url
            );
        }
    }
    Ok(())
}

/// Whether a table at `from` is read from the file `to`, or from a file in the folder `to`.
fn reads(from: &Location, to: &[String], is_folder: bool) -> Result<bool> {
    let Some(below) = to.strip_prefix(parts(from)?.as_slice()) else { return Ok(false) };
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    Ok(match &from.shape {
        Shape::Glob { glob, .. } => glob.reaches(&below, is_folder),
        Shape::Object | Shape::Folder => true,
    })
}

/// The store of a location and the parts of its path, which is canonical on a disk; of a pattern the folder before it.
fn parts(location: &Location) -> Result<Vec<String>> {
    let store = location.store.as_str().to_owned();
    let path = match store.as_str() {
        "file:///" => {
            let path = FilePath::new("/").join(location.path.as_ref());
            canonical(&path).unwrap_or(path).to_string_lossy().into_owned()
        }
        _ => location.path.to_string(),
    };
    let parts = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
    Ok(std::iter::once(store).chain(parts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::parse_url;

    fn refused(url: &str, output: &str) -> bool {
        let job = format!("name = \"x\"\n[tables.log]\nurl = {url:?}\n");
        let job = Job::parse(&job, &[]).unwrap();
        refuse_input(&job, "train.output", &parse_url(output).unwrap()).is_err()
    }

    #[test]
    fn an_output_is_not_written_where_a_table_is_read() {
        for (url, output) in [
            ("/in/", "/in/"),
            ("/in", "/in/"),
            ("/in/", "/in/sub/"),
            ("/in/", "/in/audit.prom"),
            ("/in/a.csv", "/in/a.csv"),
            ("/in/../in/", "/other/../in/x/"),
            ("/in/*.csv", "/in/"),
            ("/in/*.csv", "/in/a.csv"),
            ("/in/day=*/*.csv", "/in/day=1/"),
            ("/in/**/*.csv", "/in/out/"),
            ("s3://b/in/", "s3://b/in/x/"),
            ("s3://b/in", "s3://b/in/"),
        ] {
            assert!(refused(url, output), "{url} {output}");
        }
        for (url, output) in [
            ("/in/", "/inner/"),
            ("/in/a.csv", "/in/out/"),
            ("/in/*.csv", "/in/model/"),
            ("/in/*.csv", "/in/audit.prom"),
            ("/in/day=*/*.csv", "/in/model/"),
            ("/in/log/", "/in/"),
            ("s3://b/in/", "s3://b/inner/"),
            ("s3://b/in/", "s3://c/in/x/"),
            ("s3://b/in/", "/in/x/"),
        ] {
            assert!(!refused(url, output), "{url} {output}");
        }
    }

    #[test]
    fn a_link_is_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("in"), folder.path().join("link")).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert!(refused(&path("in/"), &path("link/out/")));
        assert!(refused(&path("link/"), &path("in/out/")));
    }

    #[test]
    fn what_is_scored_may_be_a_table_of_the_job() {
        let job = "name = \"x\"\n[tables]\nlog.url = \"/in/\"\nscored.url = \"/out/\"\n\
                   [score]\nmodel = \"/m/\"\noutput = \"/out/\"\ntable = ";
        let refused = |table: &str| {
            let job = Job::parse(&format!("{job}{table:?}"), &[]).unwrap();
            refuse_input(&job, "score.output", &parse_url("/out/").unwrap()).is_err()
        };
        assert!(!refused("log"));
        assert!(refused("scored"));
    }
}
