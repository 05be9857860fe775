//! Options of stores by name, as the cloud vendors' own tools have them.

use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::patience::DEFAULT_TIMEOUT;

/// Environment variables that configure a store, by prefix: the names are those of the
/// cloud vendors' own tools (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`,
/// `AZURE_STORAGE_ACCOUNT_NAME`, …).
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];
/// Files that the AWS tools read unless a variable names others.
const AWS_FILES: [(&str, &str); 2] =
    [("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")];
/// Options of ours.
pub(super) const TIMEOUT: &str = "storage_timeout";
pub(super) const ALLOW_LOCATION: &str = "allow_location";

/// Names and values; a name may be in lower or upper case.
#[derive(Clone)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// Those that have a value.
    pub(super) fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(options.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Those of the environment, and where the files are that the vendors' tools read.
    pub(super) fn from_env() -> Self {
        let is_option = |key: &str| PREFIXES.iter().any(|prefix| key.to_ascii_uppercase().starts_with(prefix));
        let vars =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let mut options = Self::new(vars.filter(|(key, _)| is_option(key)));
        for (key, file) in AWS_FILES {
            if options.get(&[&key.to_ascii_lowercase()]).is_none() {
                options.push(key, file);
            }
        }
        options
    }

    pub(super) fn as_slice(&self) -> &[(String, String)] {
        &self.0
    }

    pub(super) fn push(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// The value of the first of `keys`, in lower case, that is given.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&str> {
        let of = |key: &str| self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(key));
        keys.iter().find_map(|key| of(key)).map(|(_, value)| value.as_str())
    }

    /// The values of a key that may be repeated.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    /// Whether one of `keys` is set to yes.
    pub(super) fn is_set(&self, keys: &[&str]) -> bool {
        let is_yes = |value: &str| ["true", "yes", "1", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes));
        keys.iter().any(|key| self.get(&[key]).is_some_and(is_yes))
    }

    /// How long a store may take.
    pub(super) fn timeout(&self) -> Duration {
        let seconds = self.all(TIMEOUT).last().and_then(|seconds| seconds.parse().ok());
        seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs)
    }

    /// Puts those that a builder knows on it.
    pub(super) fn on<B: Builder>(&self, builder: B) -> B {
        self.0.iter().fold(builder, |builder, (key, value)| builder.with(&key.to_ascii_lowercase(), value))
    }
}

/// Options may be secrets.
impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

/// What makes a store of one kind.
pub(super) trait Builder: Sized {
    /// Sets an option, if it is one of this kind.
    fn with(self, key: &str, value: &str) -> Self;
}

macro_rules! builders {
    ($($builder:ty: $key:ty),*) => {$(
        impl Builder for $builder {
            fn with(self, key: &str, value: &str) -> Self {
                match key.parse::<$key>() {
                    Ok(key) => self.with_config(key, value),
                    Err(_) => self,
                }
            }
        }
    )*};
}
builders!(
    AmazonS3Builder: AmazonS3ConfigKey,
    MicrosoftAzureBuilder: AzureConfigKey,
    GoogleCloudStorageBuilder: GoogleConfigKey
);
