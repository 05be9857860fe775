//! Makes the store of a URL.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::{Position, Url};

use super::credentials;
use super::options::Options;
use super::patience::{Connector, client_options, retries};
use super::web::{Web, web};
use crate::error::{Error, Result};
use crate::redact::{Shown, redact};

/// What kind of store holds `url`, and where in it.
pub(super) fn place(url: &Url) -> Result<(ObjectStoreScheme, Path)> {
    // Who gives a user or a query says that it is a web server, whatever its name.
    if matches!(url.scheme(), "http" | "https") && (url.password().is_some() || !url.username().is_empty()) {
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        return Ok((ObjectStoreScheme::Http, path));
    }
    ObjectStoreScheme::parse(url).map_err(|error| unsupported(url, &error))
}

/// Makes the store that holds `url`.
pub(super) fn open(url: &Url, options: &Options) -> Result<Arc<dyn ObjectStore>> {
    let limit = options.timeout();
    let connector = Connector::new(redact(&url[..Position::BeforePath]).into_owned(), limit);
    macro_rules! builder {
        ($builder:ty) => {
            options
                .on(<$builder>::new().with_url(url.as_str()).with_client_options(client_options(limit)))
                .with_retry(retries())
                .with_http_connector(connector.clone())
        };
    }
    let failed = |error: object_store::Error| unsupported(url, &error);
    Ok(match place(url)?.0 {
        ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
        ObjectStoreScheme::Memory => Arc::new(InMemory::new()),
        ObjectStoreScheme::AmazonS3 => {
            let builder = credentials::aws(url, options, builder!(AmazonS3Builder))?;
            Arc::new(connector.bound(builder.build().map_err(failed)?))
        }
        ObjectStoreScheme::MicrosoftAzure => {
            credentials::require_azure(url, options)?;
            Arc::new(connector.bound(builder!(MicrosoftAzureBuilder).build().map_err(failed)?))
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            credentials::require_google(url, options)?;
            Arc::new(connector.bound(builder!(GoogleCloudStorageBuilder).build().map_err(failed)?))
        }
        ObjectStoreScheme::Http => {
            let Web { base, headers } = web(url)?;
            let is_signed = base.query().is_some();
            let connector = Connector::new(Shown(&base).to_string(), limit).with_headers(headers);
            let connector = if is_signed { connector.with_only_gets() } else { connector };
            let options = client_options(limit).with_allow_http(base.scheme() == "http");
            let builder = HttpBuilder::new().with_url(base.as_str()).with_client_options(options);
            let builder = builder.with_retry(retries()).with_http_connector(connector.clone());
            Arc::new(connector.bound(builder.build().map_err(failed)?))
        }
        _ => return Err(unsupported(url, &"no store of this kind")),
    })
}

fn unsupported(url: &Url, error: &dyn std::fmt::Display) -> Error {
    Error::Invalid(format!(
        "cannot open {}: {error}; a URL starts with file://, s3://, gs://, az://, http:// or https://, \
         and a cloud store takes its credentials from the environment (AWS_…, GOOGLE_…, AZURE_…)",
        Shown(url)
    ))
}
