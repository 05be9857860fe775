//! What nobody is to see of what is shown, logged or kept: passwords and signatures of URLs, and a job's secrets.
//!
//! Text is redacted where it leaves: in the messages of [`Error`](crate::Error), in log lines and reports of the executables,
//! in what a process tells another, and in a job that is written down.

use std::borrow::Cow;
use std::fmt;

use parking_lot::RwLock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use url::Url;

/// What stands in the place of what is hidden.
pub const HIDDEN: &str = "***";

/// Parameters of requests that say what is asked for, and nothing that would let somebody else ask.
const HARMLESS: [&str; 16] = [
    "comp",
    "delimiter",
    "encoding-type",
    "include",
    "list-type",
    "marker",
    "max-keys",
    "maxresults",
    "partnumber",
    "prefix",
    "restype",
    "start-after",
    "startoffset",
    "uploads",
    "versionid",
    "x-id",
];

/// The secrets of this process, in each form that they may have in text; those that hold others first.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Hides `secret` from now on, in every text of this process that is redacted: as it is, and as it is written in URLs, SQL
/// and JSON.
pub fn keep_secret(secret: &str) {
    let json = serde_json::Value::from(secret).to_string();
    let forms = [
        secret.to_owned(),
        secret.replace('\'', "''"),
        json[1..json.len() - 1].to_owned(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
    ];
    let mut secrets = SECRETS.write();
    for form in forms {
        if !form.is_empty() && !secrets.contains(&form) {
            secrets.push(form);
        }
    }
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
}

/// `text` without passwords and queries of URLs, and without the secrets that are [kept](keep_secret). Of a query, what asks
/// for part of a listing stays.
pub fn redact(text: &str) -> Cow<'_, str> {
    let text = hide_secrets(text);
    match text.contains("://") {
        true => Cow::Owned(redact_urls(&text)),
        false => text,
    }
}

/// `text` without the secrets that are [kept](keep_secret): for what holds data, whose URLs are none of ours.
pub fn hide_secrets(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for secret in SECRETS.read().iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
        }
    }
    text
}

/// Redacts every text of `json`.
pub fn redact_json(json: &mut Json) {
    match json {
        Json::String(text) => {
            if let Cow::Owned(redacted) = redact(text) {
                *text = redacted;
            }
        }
        Json::Array(values) => values.iter_mut().for_each(redact_json),
        Json::Object(fields) => fields.values_mut().for_each(redact_json),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// A URL as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a Url);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&redact(self.0.as_str()))
    }
}

fn redact_urls(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let web = rest[..scheme].ends_with("http") || rest[..scheme].ends_with("https");
        let (before, after) = rest.split_at(scheme + 3);
        redacted.push_str(before);
        let authority = after.find(|char: char| matches!(char, '/' | '?' | '#' | '"' | '\\') || char.is_whitespace());
        let (authority, after) = after.split_at(authority.unwrap_or(after.len()));
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => redacted.extend([user, ":", HIDDEN, "@", host]),
            None => redacted.push_str(authority),
        }
        let end = after.find(ends_url).unwrap_or(after.len());
        let (path, query) = after[..end].split_at(after[..end].find('?').unwrap_or(end));
        redacted.push_str(path);
        // Elsewhere a question mark may be that of a pattern.
        match query.strip_prefix('?') {
            Some(query) if web || query.contains('=') => redacted.extend(["?", &redact_query(query)]),
            _ => redacted.push_str(query),
        }
        rest = &after[end..];
    }
    redacted + rest
}

/// Whether a URL in a text has ended.
fn ends_url(char: char) -> bool {
    matches!(char, '"' | '\'' | '<' | '>' | '`' | '\\') || char.is_whitespace()
}

fn redact_query(query: &str) -> String {
    let is_harmless = |part: &str| {
        let key = part.split_once('=').map_or(part, |(key, _)| key);
        HARMLESS.contains(&key.to_ascii_lowercase().as_str())
    };
    let mut kept: Vec<&str> = query.split('&').filter(|part| is_harmless(part)).collect();
    if kept.len() < query.split('&').count() && !query.is_empty() {
        kept.push(HIDDEN);
    }
    kept.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_signatures_of_urls_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("https://me:pa/x.csv", "https://me:pa/x.csv"),
            ("https://me:pass@host/x.csv", "https://me:***@host/x.csv"),
            ("https://me:p@ss@host:80/x.csv", "https://me:***@host:80/x.csv"),
            ("abfss://logs@account.dfs.core.windows.net/x", "abfss://logs@account.dfs.core.windows.net/x"),
            ("https://host/x.csv?X-Amz-Credential=AKIA&X-Amz-Signature=ab", "https://host/x.csv?***"),
            ("FROM 'https://host/x.csv?sig=a%2Fb' WHERE", "FROM 'https://host/x.csv?***' WHERE"),
            ("{\"url\":\"https://h/x?sv=1&sig=2\"}", "{\"url\":\"https://h/x?***\"}"),
            ("GET http://h/b?list-type=2&prefix=log%2F in 1s", "GET http://h/b?list-type=2&prefix=log%2F in 1s"),
            ("http://h/c?comp=list&sig=abc and s3://b/?.csv", "http://h/c?comp=list&*** and s3://b/?.csv"),
            ("https://h/x?token", "https://h/x?***"),
            ("az://c/x.csv?sv=1&sig=2\nnext", "az://c/x.csv?***\nnext"),
            ("no URL?a=b", "no URL?a=b"),
        ] {
            assert_eq!(redact(text), shown);
        }
        let url = Url::parse("https://me:pass@host/x?sig=1").unwrap();
        assert_eq!(Shown(&url).to_string(), "https://me:***@host/x?***");
    }

    #[test]
    fn a_secret_is_hidden_in_each_form_that_it_takes() {
        keep_secret("it's \"se/cret\"");
        for text in ["a it's \"se/cret\" b", "a it''s \"se/cret\" b", "a it's \\\"se/cret\\\" b"] {
            assert_eq!(redact(text), "a *** b");
        }
        assert_eq!(redact("x=it%27s%20%22se%2Fcret%22"), "x=***");
        let mut json = serde_json::json!({"a": ["it's \"se/cret\"", 1]});
        redact_json(&mut json);
        assert_eq!(json, serde_json::json!({"a": ["***", 1]}));
    }
}
