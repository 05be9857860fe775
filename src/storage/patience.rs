//! How long a store may take: each answer, each further part of one, and each upload, retries included.
//!
//! Two layers. Each request has a [`Connector`] below it, which gives up a connection that says nothing, so that another is
//! tried, and remembers what went wrong. Each operation of a store has a [`Patient`] above it, which ends it when its time is
//! over, and says what went wrong.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, RetryConfig, UploadPart,
};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long a store may take where nobody says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried in that time: so often does a connection that says nothing leave room for another.
const ATTEMPTS: u32 = 3;
/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The longest wait for a connection.
const MAX_CONNECT: Duration = Duration::from_secs(5);

/// How a request is repeated: until the operation that it belongs to is ended.
pub(super) fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: MAX_BACKOFF, base: 3.0 };
    RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: Duration::MAX }
}

/// What connections are made with: a download may take as long as it goes on.
pub(super) fn client_options(limit: Duration) -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(MAX_CONNECT.min(limit / ATTEMPTS))
}

/// What went wrong last with a store.
type Trouble = Arc<Mutex<Option<String>>>;

/// Makes connections that are given up where they say nothing.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    /// What a person calls the store.
    name: String,
    limit: Duration,
    trouble: Trouble,
    headers: HeaderMap,
    only_gets: bool,
}

impl Connector {
    pub(super) fn new(name: String, limit: Duration) -> Self {
        Self { name, limit, trouble: Trouble::default(), headers: HeaderMap::new(), only_gets: false }
    }

    /// Adds headers to each request.
    pub(super) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// Asks for no more than is signed: a signature is that of GET, and HEAD is refused.
    pub(super) fn with_only_gets(self) -> Self {
        Self { only_gets: true, ..self }
    }

    /// The store, whose operations end in time.
    pub(super) fn bound(&self, inner: impl ObjectStore) -> Patient {
        Patient {
            inner: Arc::new(inner),
            patience: Patience { name: self.name.clone().into(), limit: self.limit, trouble: self.trouble.clone() },
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { inner, of: self.clone() }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    of: Connector,
}

impl Service {
    fn note(&self, trouble: String) {
        tracing::warn!("{} {trouble}; it is asked again until {:?} are over", self.of.name, self.of.limit);
        *self.of.trouble.lock() = Some(trouble);
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        request.headers_mut().extend(self.of.headers.clone());
        let looks = self.of.only_gets && request.method() == Method::HEAD;
        if looks {
            *request.method_mut() = Method::GET;
            request.headers_mut().insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        }
        // What is sent takes its time.
        let wait = match request.body().content_length() {
            0 => self.of.limit / ATTEMPTS,
            _ => self.of.limit,
        };
        let response = match timeout(wait, self.inner.execute(request)).await {
            Err(_) => {
                self.note(format!("gave no answer for {wait:?}"));
                return Err(HttpError::new(HttpErrorKind::Timeout, Silent(wait)));
            }
            Ok(Err(error)) => {
                self.note(match error.kind() {
                    HttpErrorKind::Connect => "cannot be connected to".to_owned(),
                    _ => format!("broke the connection off: {}", Causes(&error)),
                });
                return Err(error);
            }
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let is_repeated =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        if is_repeated {
            self.note(format!("answered {status}"));
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            if let Some(seconds) = seconds {
                sleep(Duration::from_secs(seconds).min(self.of.limit)).await;
            }
        } else {
            *self.of.trouble.lock() = None;
        }
        Ok(if looks { looked_at(response) } else { response.map(|body| Listening::body(body, &self.of)) })
    }
}

/// The answer that HEAD would have had, by that to a request for the first byte.
fn looked_at(response: HttpResponse) -> HttpResponse {
    let (mut parts, body) = response.into_parts();
    let is_empty = parts.status == StatusCode::RANGE_NOT_SATISFIABLE;
    if parts.status != StatusCode::PARTIAL_CONTENT && !is_empty {
        return HttpResponse::from_parts(parts, body);
    }
    let range = parts.headers.remove(CONTENT_RANGE);
    let size = range.and_then(|range| range.to_str().ok()?.rsplit_once('/')?.1.parse::<u64>().ok());
    if let Some(size) = size.filter(|size| !is_empty || *size == 0) {
        parts.status = StatusCode::OK;
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    HttpResponse::from_parts(parts, Bytes::new().into())
}

#[derive(Debug, thiserror::Error)]
#[error("no answer for {0:?}")]
struct Silent(Duration);

/// An error with what it stems from.
struct Causes<'a>(&'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0;
        while let Some(source) = last.source() {
            last = source;
        }
        fmt::Display::fmt(last, formatter)
    }
}

/// A body that is given up where no more of it comes.
struct Listening {
    inner: HttpResponseBody,
    of: Connector,
    wait: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Listening {
    fn body(inner: HttpResponseBody, of: &Connector) -> HttpResponseBody {
        let wait = of.limit / ATTEMPTS;
        HttpResponseBody::new(Self { inner, of: of.clone(), wait, silence: Box::pin(sleep(wait)) })
    }

    fn note(&self, trouble: String) {
        tracing::warn!("{} {trouble}; the rest is asked for again", self.of.name);
        *self.of.trouble.lock() = Some(trouble);
    }
}

impl Body for Listening {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.wait;
                self.silence.as_mut().reset(next);
                if let Some(Err(error)) = &frame {
                    self.note(format!("broke off in the middle of an answer: {}", Causes(error)));
                }
                Poll::Ready(frame)
            }
            Poll::Pending => self.silence.as_mut().poll(context).map(|()| {
                self.note(format!("sent no more of an answer for {:?}", self.wait));
                Some(Err(HttpError::new(HttpErrorKind::Timeout, Silent(self.wait))))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A store whose operations end in time.
#[derive(Debug)]
pub(super) struct Patient {
    inner: Arc<dyn ObjectStore>,
    patience: Patience,
}

#[derive(Debug, Clone)]
struct Patience {
    name: Arc<str>,
    limit: Duration,
    trouble: Trouble,
}

/// An operation that was ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} {trouble}: given up after {limit:?}; try again later, or give it longer by storage.timeout in the job or \
     --storage-timeout"
)]
struct GivenUp {
    name: Arc<str>,
    trouble: String,
    limit: Duration,
}

/// Credentials that were good once.
#[derive(Debug, thiserror::Error)]
#[error("the credentials for {name} have expired: renew them, and run again")]
struct Expired {
    name: Arc<str>,
    source: object_store::Error,
}

impl Patience {
    async fn wait<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(self.limit, operation).await {
            Ok(done) => done.map_err(|error| self.explain(error)),
            Err(_) => {
                let trouble = self.trouble.lock().clone().unwrap_or_else(|| "did not finish".to_owned());
                let given_up = GivenUp { name: Arc::clone(&self.name), trouble, limit: self.limit };
                Err(object_store::Error::Generic { store: "object store", source: given_up.into() })
            }
        }
    }

    /// The error, in words where the store has told them in XML.
    fn explain(&self, error: object_store::Error) -> object_store::Error {
        let text = error.to_string();
        if !["ExpiredToken", "TokenRefreshRequired", "RequestExpired"].iter().any(|code| text.contains(code)) {
            return error;
        }
        let expired = Expired { name: Arc::clone(&self.name), source: error };
        object_store::Error::Unauthenticated { path: self.name.to_string(), source: expired.into() }
    }

    /// A stream of which each next item comes in time.
    fn each<T: Send + 'static>(&self, inner: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let patience = self.clone();
        stream::unfold(Some(inner), move |inner| {
            let patience = patience.clone();
            async move {
                let mut inner = inner?;
                match patience.wait(async { Ok(inner.next().await) }).await {
                    Ok(None) => None,
                    Ok(Some(Ok(item))) => Some((Ok(item), Some(inner))),
                    Ok(Some(Err(error))) => Some((Err(patience.explain(error)), Some(inner))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }
}

impl Patient {
    /// Why a look at an object is refused: what an answer to HEAD cannot say, and one to GET can.
    async fn why(&self, location: &Path) -> Option<object_store::Error> {
        self.patience.wait(self.inner.get_range(location, 0..1)).await.err()
    }
}

fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error;
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        error => error.to_string().contains("400 Bad Request"),
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_look = options.head;
        let found = self.patience.wait(self.inner.get_opts(location, options)).await;
        let mut found = match found {
            Err(error) if is_look && is_refusal(&error) => return Err(self.why(location).await.unwrap_or(error)),
            found => found?,
        };
        if let GetResultPayload::Stream(bytes) = found.payload {
            found.payload = GetResultPayload::Stream(self.patience.each(bytes));
        }
        Ok(found)
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.patience.wait(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.patience.wait(self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(PatientUpload { inner, patience: self.patience.clone() }))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.patience.each(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.patience.each(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.patience.each(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.patience.wait(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.patience.wait(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.patience.wait(self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct PatientUpload {
    inner: Box<dyn MultipartUpload>,
    patience: Patience,
}

#[async_trait]
impl MultipartUpload for PatientUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, patience) = (self.inner.put_part(data), self.patience.clone());
        Box::pin(async move { patience.wait(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.patience.wait(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.patience.wait(self.inner.abort()).await
    }
}
