//! Files of web servers, whose URLs may carry a signature in their query and a password.
//!
//! A session knows a store by scheme and authority alone. The query of a URL is therefore part of the store: it stands,
//! encoded, where the password does, so that two signed URLs of one host are two stores, each of one file.

use object_store::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::error::{Error, Result};

/// The user of a URL whose password is the query of another.
const WITH_QUERY: &str = "counterweight-query";

/// The URL by which a store with a query is known; any other URL as it is.
pub(crate) fn store_url(url: &Url) -> Url {
    let mut known = url.clone();
    known.set_fragment(None);
    let Some(query) = url.query().filter(|_| matches!(url.scheme(), "http" | "https")) else { return known };
    let user = match url.password() {
        Some(password) => format!("{}:{password}", url.username()),
        None => url.username().to_owned(),
    };
    let encoded = utf8_percent_encode(&format!("{user}?{query}"), NON_ALPHANUMERIC).to_string();
    known.set_query(None);
    let set = known.set_username(WITH_QUERY).and_then(|()| known.set_password(Some(&encoded)));
    debug_assert!(set.is_ok(), "a web URL has a host");
    known
}

/// What requests to a web server are made with.
pub(super) struct Web {
    /// Its URL without user and path, with the query that each request has.
    pub(super) base: Url,
    /// Headers of each request.
    pub(super) headers: HeaderMap,
}

/// Reads a URL that [`store_url`] gave.
pub(super) fn web(url: &Url) -> Result<Web> {
    let mut base = url.clone();
    base.set_path("");
    let text = |encoded: &str| percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    let mut user = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
    if user.0 == WITH_QUERY {
        let decoded = text(&user.1);
        let (before, query) = decoded.split_once('?').unwrap_or(("", &decoded));
        base.set_query(Some(query));
        let (name, password) = before.split_once(':').unwrap_or((before, ""));
        user = (name.to_owned(), password.to_owned());
    }
    let cleared = base.set_username("").and_then(|()| base.set_password(None));
    debug_assert!(cleared.is_ok(), "a web URL has a host");
    let mut headers = HeaderMap::new();
    if !user.0.is_empty() || !user.1.is_empty() {
        let basic = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("{}:{}", text(&user.0), text(&user.1)),
        );
        let mut value = object_store::HeaderValue::try_from(format!("Basic {basic}"))
            .map_err(|error| Error::Invalid(format!("the user of {}: {error}", crate::redact::Shown(&base))))?;
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    Ok(Web { base, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_part_of_the_store() {
        let url = |text: &str| Url::parse(text).unwrap();
        let known = store_url(&url("https://host:81/a/b.csv?X-Amz-Signature=a%2Fb&x=1#part"));
        assert_eq!(known.path(), "/a/b.csv");
        assert_eq!((known.query(), known.fragment()), (None, None));
        let Web { base, headers } = web(&known).unwrap();
        assert_eq!(base.as_str(), "https://host:81/?X-Amz-Signature=a%2Fb&x=1");
        assert!(headers.is_empty());
        let Web { base, headers } = web(&store_url(&url("http://me:p%40ss@host/x?sig=1"))).unwrap();
        assert_eq!(base.as_str(), "http://host/?sig=1");
        assert_eq!(headers["authorization"], "Basic bWU6cEBzcw==");
        let Web { base, headers } = web(&store_url(&url("http://me:p%40ss@host/x"))).unwrap();
        assert_eq!(base.as_str(), "http://host/");
        assert_eq!(headers["authorization"], "Basic bWU6cEBzcw==");
        assert_eq!(store_url(&url("s3://b/x?y")).query(), Some("y"));
    }
}
