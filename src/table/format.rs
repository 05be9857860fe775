//! What the files of a table are: their format and their compression, by keys and by the extensions of their names.

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::ObjectMeta;

use super::location::Location;
use crate::error::{Result, invalid, suggestion};

/// How the files of a table are read: the keys of a job's [`TableSpec`](crate::job::TableSpec).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableFormat {
    /// See [`TableSpec::format`](crate::job::TableSpec::format).
    pub format: Option<String>,
    /// See [`TableSpec::compression`](crate::job::TableSpec::compression).
    pub compression: Option<String>,
    /// See [`TableSpec::header`](crate::job::TableSpec::header).
    pub header: Option<bool>,
    /// See [`TableSpec::delimiter`](crate::job::TableSpec::delimiter).
    pub delimiter: Option<char>,
    /// See [`TableSpec::quote`](crate::job::TableSpec::quote).
    pub quote: Option<char>,
    /// See [`TableSpec::escape`](crate::job::TableSpec::escape).
    pub escape: Option<char>,
    /// See [`TableSpec::newlines`](crate::job::TableSpec::newlines).
    pub newlines: Option<bool>,
    /// See [`TableSpec::null`](crate::job::TableSpec::null).
    pub null: Option<String>,
    /// See [`TableSpec::schema`](crate::job::TableSpec::schema).
    pub schema: Option<String>,
    /// See [`TableSpec::int96`](crate::job::TableSpec::int96).
    pub int96: Option<String>,
    /// See [`TableSpec::recursive`](crate::job::TableSpec::recursive).
    pub recursive: Option<bool>,
}

/// A format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parquet,
    Csv,
    Tsv,
    /// Separated values under a name that does not say by what.
    Text,
    Json,
    Arrow,
}

/// The formats by the extensions of their files, which are also their names in a job.
const EXTENSIONS: [(&str, Kind); 10] = [
    ("parquet", Kind::Parquet),
    ("csv", Kind::Csv),
    ("tsv", Kind::Tsv),
    ("json", Kind::Json),
    ("ndjson", Kind::Json),
    ("jsonl", Kind::Json),
    ("arrow", Kind::Arrow),
    ("ipc", Kind::Arrow),
    ("feather", Kind::Arrow),
    ("txt", Kind::Text),
];

impl Kind {
    fn of(extension: &str) -> Option<Self> {
        let known = EXTENSIONS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
        known.map(|(_, kind)| kind)
    }

    /// What a message calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Parquet => "parquet",
            Kind::Csv => "csv",
            Kind::Text => "txt",
            Kind::Tsv => "tsv",
            Kind::Json => "ndjson",
            Kind::Arrow => "arrow",
        }
    }

    /// Whether its files are lines of separated values.
    pub(super) fn is_separated(self) -> bool {
        matches!(self, Kind::Csv | Kind::Tsv | Kind::Text)
    }

    fn is_text(self) -> bool {
        self.is_separated() || self == Kind::Json
    }
}

/// The parts of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// All before the extensions of format and compression.
    pub(super) stem: &'a str,
    extension: &'a str,
    compression: Option<&'a str>,
}

impl<'a> Name<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let (rest, compression) = match name.rsplit_once('.') {
            Some((rest, last)) if compression_of(last).is_some_and(|kind| kind.is_compressed()) => (rest, Some(last)),
            _ => (name, None),
        };
        match rest.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => Self { stem, extension, compression },
            _ => Self { stem: rest, extension: "", compression },
        }
    }
}

fn compression_of(text: &str) -> Option<FileCompressionType> {
    text.parse().ok()
}

/// The format of all of `files`, and the compression of each.
///
/// # Errors
/// Where the format cannot be told, a file is of another one, or a key does not belong to it.
pub(super) fn kind_of(
    location: &Location,
    files: &[ObjectMeta],
    format: &TableFormat,
) -> Result<(Kind, Vec<FileCompressionType>)> {
    let name = |file: &ObjectMeta| file.location.filename().unwrap_or_default().to_owned();
    let known = |file: &ObjectMeta| Kind::of(Name::of(&name(file)).extension);
    let names = EXTENSIONS.map(|(known, _)| known);
    let kind = match &format.format {
        Some(given) => match Kind::of(given) {
            Some(kind) => kind,
            None => invalid!("invalid format {given:?}{}", suggestion(given, names)),
        },
        None => match most(files.iter().filter_map(known)) {
            Some(kind) => kind,
            None => invalid!(
                "the extension of {:?} is no format that is read here ({}); state the format",
                name(&files[0]),
                names.join(", ")
            ),
        },
    };
    let stated = format.format.is_some();
    // A stated format goes for one file whatever its name, and for several that have one extension which says nothing else.
    let says_so = |file: &ObjectMeta| known(file) == Some(kind);
    let extension = |file: &ObjectMeta| Name::of(&name(file)).extension.to_ascii_lowercase();
    let first = extension(&files[0]);
    let is_free =
        known(&files[0]).is_none() || (kind.is_separated() && known(&files[0]).is_some_and(Kind::is_separated));
    let of_one = stated && (files.len() == 1 || (is_free && files.iter().all(|file| extension(file) == first)));
    let belongs = |file: &ObjectMeta| of_one || says_so(file);
    if let Some(foreign) = files.iter().find(|file| !belongs(file)) {
        let of = match known(foreign) {
            Some(other) => format!("is {}", other.name()),
            None => "is of no known format".to_owned(),
        };
        invalid!(
            "{} {of}, and the other files there are {}: a table's files are of one format. Move it elsewhere, begin its \
             name with an underscore, which hides it, or name the table's files with a glob",
            location.show(foreign),
            kind.name()
        );
    }

    let given = format.compression.as_deref();
    let compressions = files.iter().map(|file| {
        let name = name(file);
        let text = given.or(Name::of(&name).compression);
        let Some(text) = text else { return Ok(FileCompressionType::UNCOMPRESSED) };
        match compression_of(text) {
            Some(compression) if kind.is_text() => Ok(compression),
            Some(_) => invalid!(
                "{} has compression {text:?}, which CSV and NDJSON alone can have: {} is compressed inside",
                location.show(file),
                kind.name()
            ),
            None => invalid!("invalid compression {text:?}{}", suggestion(text, ["gzip", "zstd", "bzip2", "xz"])),
        }
    });
    let compressions = compressions.collect::<Result<_>>()?;
    refuse_strange_keys(kind, format)?;
    Ok((kind, compressions))
}

/// The kind that comes most often, and of several such the one that comes first.
fn most(kinds: impl Iterator<Item = Kind>) -> Option<Kind> {
    let mut counts: Vec<(Kind, usize)> = Vec::new();
    for kind in kinds {
        match counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => counts.push((kind, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(kind, _)| kind)
}

fn refuse_strange_keys(kind: Kind, format: &TableFormat) -> Result<()> {
    let TableFormat { header, delimiter, quote, escape, newlines, null, int96, .. } = format;
    let keys = [
        ("header", header.is_some()),
        ("delimiter", delimiter.is_some()),
        ("quote", quote.is_some()),
        ("escape", escape.is_some()),
        ("newlines", newlines.is_some()),
        ("null", null.is_some()),
    ];
    let given: Vec<&str> = keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    if !kind.is_separated() && !given.is_empty() {
        invalid!("{} belong to csv, and this is {}", given.join(", "), kind.name());
    }
    match int96.as_deref() {
        Some(_) if kind != Kind::Parquet => invalid!("int96 belongs to parquet, and this is {}", kind.name()),
        Some(unit) if !["ns", "us", "ms", "s"].contains(&unit) => {
            invalid!("invalid int96 {unit:?}; it is one of: ns, us, ms, s")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_stem_a_format_and_a_compression() {
        let parts = |name| {
            let Name { stem, extension, compression } = Name::of(name);
            (stem, extension, compression)
        };
        assert_eq!(parts("a.b.csv.gz"), ("a.b", "csv", Some("gz")));
        assert_eq!(parts("x.snappy.parquet"), ("x.snappy", "parquet", None));
        assert_eq!(parts("part-0"), ("part-0", "", None));
        assert_eq!(parts(r"..\x.csv"), (r"..\x", "csv", None));
    }
}
