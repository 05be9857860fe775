//! Outputs that would be read as input, or take the place of it.

use glob::Pattern;
use url::Url;

use super::disk::{canonical, local_path};
use crate::error::{Result, invalid};
use crate::job::Job;
use crate::storage::parse_url;

/// Refuses an output of `job`, a folder or a file that it gives under `key`, where an input table of the job is read from the
/// same place. Links are followed.
///
/// # Errors
/// The message names both.
pub fn refuse_input(job: &Job, key: &str, output: &Url) -> Result<()> {
    let to = parts(output)?;
    let scored = job.score.as_ref().filter(|_| key == "score.output");
    for (name, spec) in &job.tables {
        let from = Place::parse(&spec.url)?;
        // What the job scores may be one of its tables, but not the one that it is scored from.
        let is_scored = scored.is_some_and(|score| score.table.as_ref() != Some(name)) && from.is(&to);
        if !is_scored && from.reads(&to, output.path().ends_with('/')) {
            invalid!(
                "{key} = {output} lies where tables.{name} is read from, {}: write to a place outside of it",
                spec.url
            );
        }
    }
    Ok(())
}

/// Where a table is read from: a file or a folder, or what matches a pattern below it.
struct Place {
    parts: Vec<String>,
    pattern: Vec<Pattern>,
}

impl Place {
    fn parse(url: &str) -> Result<Self> {
        let glob = url.find(['*', '?', '[']).filter(|_| !url.starts_with("http"));
        let folder = glob.map_or(url, |glob| &url[..url[..glob].rfind('/').map_or(0, |slash| slash + 1)]);
        let parse = |part: &str| Pattern::new(part).or_else(|_| Pattern::new(&Pattern::escape(part)));
        let pattern = url[folder.len()..].split('/').filter(|part| !part.is_empty()).map(parse);
        let pattern =
            pattern.collect::<Result<_, _>>().map_err(|error| crate::Error::Invalid(format!("{url:?}: {error}")))?;
        let folder = if folder.is_empty() { "./" } else { folder };
        Ok(Self { parts: parts(&parse_url(folder)?)?, pattern })
    }

    /// Whether it is the whole of the folder `to`.
    fn is(&self, to: &[String]) -> bool {
        self.pattern.is_empty() && self.parts == to
    }

    /// Whether the file `to`, or a file in the folder `to`, would be read.
    fn reads(&self, to: &[String], is_folder: bool) -> bool {
        let Some(below) = to.strip_prefix(self.parts.as_slice()) else { return false };
        if self.pattern.is_empty() {
            return true;
        }
        let mut names = below.iter();
        for part in &self.pattern {
            match names.next() {
                _ if part.as_str() == "**" => return true,
                Some(name) if part.matches(name) => {}
                Some(_) => return false,
                None => return is_folder,
            }
        }
        names.next().is_none() && !is_folder
    }
}

/// The parts of a URL's path after its store, of a canonical path on a disk.
fn parts(url: &Url) -> Result<Vec<String>> {
    if let Some(path) = local_path(url) {
        let path = canonical(&path).unwrap_or(path);
        return Ok(path.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect());
    }
    let store = url[..url::Position::BeforePath].to_owned();
    let path = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(str::to_owned);
    Ok(std::iter::once(store).chain(path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
