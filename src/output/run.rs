//! The name of a run, which its files carry.

use std::fmt;

use chrono::Utc;

const FORM: &str = "%Y%m%dt%H%M%S";

/// Names one run of this program among all that write to a folder: `20261124t073000-9c3fa1b2`, the time at which it
/// started and 32 random bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(String);

impl RunId {
    /// A name of its own for this run.
    pub(super) fn new() -> Self {
        Self(format!("{}-{:08x}", Utc::now().format(FORM), rand::random::<u32>()))
    }

    /// Reads a name back; none where it is not of the form that [`RunId::new`] gives.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (time, random) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (date, clock) = time.split_once('t')?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let of_form = date.len() == 8 && clock.len() == 6 && digits(date) && digits(clock);
        (of_form && random.len() == 8 && random.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// `name` with this run before its extension: `day=1/a.parquet` becomes `day=1/a-RUN.parquet`.
    pub(super) fn carried_by(&self, name: &str) -> String {
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        match name[file..].rfind('.') {
            Some(dot) if dot > 0 => format!("{}-{self}{}", &name[..file + dot], &name[file + dot..]),
            _ => format!("{name}-{self}"),
        }
    }

    /// Whether the name of a file carries this run.
    pub(super) fn is_carried_by(&self, name: &str) -> bool {
        let file = name.rsplit('/').next().unwrap_or(name);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem });
        stem.strip_suffix(self.0.as_str()).is_some_and(|rest| rest.ends_with('-'))
    }
}

/// `stem` without the run that it ends with, if it carries one.
pub(crate) fn without_run(stem: &str) -> &str {
    let mut dashes = stem.rmatch_indices('-').map(|(at, _)| at).skip(1);
    match dashes.next() {
        Some(at) if RunId::parse(&stem[at + 1..]).is_some() => &stem[..at],
        _ => stem,
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_its_run_before_the_extension() {
        let run = RunId::new();
        assert_eq!(RunId::parse(&run.to_string()), Some(run.clone()));
        assert_ne!(RunId::new(), run);
        for (name, expected) in [
            ("a.parquet", format!("a-{run}.parquet")),
            ("day=1.5/a.b.parquet", format!("day=1.5/a.b-{run}.parquet")),
            ("day=1.5/a", format!("day=1.5/a-{run}")),
            (".a", format!(".a-{run}")),
        ] {
            assert_eq!(run.carried_by(name), expected);
            assert!(run.is_carried_by(&expected) && !run.is_carried_by(name));
            assert!(!RunId::new().is_carried_by(&expected));
        }
        assert_eq!(without_run(&format!("a-b-{run}")), "a-b");
        assert_eq!(without_run("a-b-c"), "a-b-c");
        for text in ["", "x", "20261124t073000", "20261124t073000-9c3fa1b", "20261124t073000-9c3fa1bG", "../x-00000000"]
        {
            assert_eq!(RunId::parse(text), None, "{text}");
        }
    }
}
