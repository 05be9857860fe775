//! Profiles of the AWS tools: `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result, invalid, suggestion};

/// What a profile says, by key; a key of a nested group is `group.key`.
pub(super) type Profile = BTreeMap<String, String>;

/// Reads the profile of that name, or where none is named `default`. The file of credentials wins over that of settings.
///
/// # Errors
/// Where a file is there and cannot be read, or the profile that was named is in neither.
pub(super) fn read(config: Option<&str>, credentials: Option<&str>, name: Option<&str>) -> Result<Profile> {
    let wanted = name.unwrap_or("default");
    let mut profile = Profile::new();
    let (mut found, mut known) = (false, Vec::new());
    for (path, is_config) in [(config, true), (credentials, false)] {
        let Some(path) = path else { continue };
        let sections = parse(&text(path)?);
        let services = |name: &str| sections.get(&format!("services {name}")).cloned().unwrap_or_default();
        for (section, values) in &sections {
            let of = match section.strip_prefix("profile ") {
                Some(name) if is_config => name.trim(),
                _ if is_config && section != "default" => continue,
                _ => section,
            };
            known.push(of.to_owned());
            if of == wanted {
                found = true;
                if let Some(name) = values.get("services") {
                    profile.extend(services(name));
                }
                profile.extend(values.clone());
            }
        }
    }
    if !found && name.is_some() {
        known.sort();
        known.dedup();
        let places = [config, credentials].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        invalid!(
            "AWS_PROFILE = {wanted:?} is no profile of {places}{}",
            suggestion(wanted, known.iter().map(String::as_str))
        );
    }
    Ok(profile)
}

/// The text of a file; none where there is no file.
fn text(path: &str) -> Result<String> {
    let path = match path.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => Path::new(path).to_owned(),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::Invalid(format!("cannot read the profiles of {}: {error}", path.display()))),
    }
}

/// Sections by their name. Lines that begin with a blank belong to the key above them.
fn parse(text: &str) -> BTreeMap<String, Profile> {
    let mut sections: BTreeMap<String, Profile> = BTreeMap::new();
    let (mut section, mut group) = (None, String::new());
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.split_once(" #").or_else(|| line.split_once(" ;")).map_or(line, |(before, _)| before).trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.trim().to_owned());
            sections.entry(name.trim().to_owned()).or_default();
            continue;
        }
        let (Some(section), Some((key, value))) = (&section, line.split_once('=')) else { continue };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().to_owned());
        let key = if is_nested && !group.is_empty() { format!("{group}.{key}") } else { key };
        if !is_nested {
            group = if value.is_empty() { key.clone() } else { String::new() };
        }
        if !value.is_empty() {
            sections.entry(section.clone()).or_default().insert(key, value);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(
            path("config"),
            "# settings\n[default]\nregion = eu-west-1\n[profile work]\nregion=us-east-2 # near\nservices = local\n\
             aws_access_key_id = OLD\ns3 =\n  max_concurrent_requests = 20\n[services local]\ns3 =\n  endpoint_url = \
             http://localhost:9000\n[work]\nregion = wrong\n",
        )
        .unwrap();
        std::fs::write(
            path("credentials"),
            "[work]\naws_access_key_id = AKIA\naws_secret_access_key = a=b+c\n; none\n",
        )
        .unwrap();
        let read = |name| read(Some(&path("config")), Some(&path("credentials")), name);
        let work = read(Some("work")).unwrap();
        for (key, value) in [
            ("region", "us-east-2"),
            ("aws_access_key_id", "AKIA"),
            ("aws_secret_access_key", "a=b+c"),
            ("s3.endpoint_url", "http://localhost:9000"),
            ("s3.max_concurrent_requests", "20"),
        ] {
            assert_eq!(work.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(read(None).unwrap()["region"], "eu-west-1");
        let error = read(Some("wrok")).unwrap_err().to_string();
        assert!(error.contains("AWS_PROFILE = \"wrok\"") && error.contains("did you mean \"work\"?"), "{error}");
        assert!(super::read(Some("/none"), None, None).unwrap().is_empty());
    }
}
