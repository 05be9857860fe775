//! The storage layer: what every kind of store does alike.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use counterweight::object_store::path::Path;
use counterweight::object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use counterweight::output::{MANIFEST, Others, Outputs, list};
use counterweight::storage::{Storage, is_not_found, parse_url};
use futures::{StreamExt, TryStreamExt, future, stream};
use url::Url;

use crate::s3_server::S3Server;

/// More objects than a page of a listing.
const MANY: usize = 1_100;
/// What S3 wants of each part but the last.
const PART: usize = 5 << 20;
const ODD_NAMES: [&str; 9] = ["a b", "ü", "50%", "x+y", "a#b", "key=value", "p[1].csv", "what?", "%2e%2e"];

struct Subject {
    storage: Storage,
    base: Url,
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Subject {
    fn new(storage: Storage, base: &str) -> Self {
        let base = parse_url(base).unwrap();
        let (store, root) = storage.resolve(&base).unwrap();
        Self { storage, base, store, root }
    }

    fn path(&self, name: &str) -> Path {
        Path::parse(format!("{}/{name}", self.root)).unwrap()
    }

    fn url(&self, name: &str) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().unwrap().pop_if_empty().extend(name.split('/'));
        url
    }

    async fn put(&self, name: &str, text: &str) {
        self.store.put(&self.path(name), text.to_owned().into()).await.unwrap();
    }

    async fn read(&self, name: &str) -> Option<String> {
        let bytes = self.storage.read_if_present(&self.url(name)).await.unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    async fn list(&self, folder: &str) -> Vec<String> {
        let listed: Vec<_> = self.store.list(Some(&self.path(folder))).try_collect().await.unwrap();
        let mut names: Vec<_> = listed.iter().map(|object| object.location.filename().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

/// What is asked of every store. `creates` says that a store creates objects only where there is none.
async fn keeps_objects(storage: Storage, base: &str, creates: bool) {
    let subject = Subject::new(storage, base);
    assert_eq!(subject.read("absent").await, None);
    assert!(is_not_found(&subject.storage.read(&subject.url("absent")).await.unwrap_err()));
    assert!(subject.list("absent").await.is_empty());

    subject.put("a/x", "one").await;
    subject.put("a/x", "another").await;
    subject.put("a/b/y", "deep").await;
    subject.put("ab/z", "beside").await;
    assert_eq!(subject.read("a/x").await.as_deref(), Some("another"));
    assert_eq!(subject.list("a").await, ["x", "y"]);
    assert_eq!(subject.store.get_range(&subject.path("a/x"), 2..5).await.unwrap(), "oth");
    let ranges = subject.store.get_ranges(&subject.path("a/x"), &[0..1, 5..7]).await.unwrap();
    assert_eq!(ranges, ["a", "er"]);

    let create = || PutOptions::from(PutMode::Create);
    if creates {
        let again = subject.store.put_opts(&subject.path("a/x"), "third".into(), create()).await.unwrap_err();
        assert!(matches!(again, counterweight::object_store::Error::AlreadyExists { .. }), "{again}");
        subject.store.put_opts(&subject.path("a/new"), "new".into(), create()).await.unwrap();
        assert_eq!(subject.read("a/new").await.as_deref(), Some("new"));
    }

    let parts = [vec![b'a'; PART], vec![b'b'; PART], vec![b'c']];
    let mut upload = subject.store.put_multipart(&subject.path("big")).await.unwrap();
    for part in &parts {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    assert_eq!(subject.read("big").await, None, "an upload is not there before it is completed");
    upload.complete().await.unwrap();
    assert_eq!(subject.storage.read(&subject.url("big")).await.unwrap(), parts.concat());
    let mut dropped = subject.store.put_multipart(&subject.path("dropped")).await.unwrap();
    dropped.put_part(vec![b'a'; PART].into()).await.unwrap();
    dropped.abort().await.unwrap();
    assert_eq!(subject.read("dropped").await, None);

    for name in ODD_NAMES {
        let name = format!("odd/{name}");
        subject.put(&name, &name).await;
        assert_eq!(subject.read(&name).await.as_deref(), Some(name.as_str()));
    }
    assert_eq!(subject.list("odd").await.len(), ODD_NAMES.len());

    let many = (0..MANY).map(|number| format!("many/{number:04}"));
    stream::iter(many).for_each_concurrent(32, async |name| subject.put(&name, &name).await).await;
    let listed = subject.list("many").await;
    assert_eq!(listed.len(), MANY);
    assert!(listed.iter().enumerate().all(|(number, name)| *name == format!("{number:04}")));

    for folder in ["many/", "a/", "odd/"] {
        subject.storage.remove_folder(&subject.url(folder)).await.unwrap();
        assert!(subject.list(folder.trim_end_matches('/')).await.is_empty(), "{folder}");
        subject.storage.remove_folder(&subject.url(folder)).await.unwrap();
    }
    assert_eq!(subject.read("ab/z").await.as_deref(), Some("beside"));
}

/// What output folders need of a store that creates and replaces an object only where nobody else has.
async fn keeps_one_of_several_writers(storage: Storage, base: &str) {
    let subject = Subject::new(storage, base);
    let path = subject.path("contested");
    for round in 0..4 {
        let found = subject.store.head(&path).await.ok();
        let mode = match &found {
            Some(meta) => PutMode::Update(UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() }),
            None => PutMode::Create,
        };
        let puts = (0..16).map(|writer| {
            let text = format!("{round} {writer}");
            subject.store.put_opts(&path, text.into(), mode.clone().into())
        });
        let won = future::join_all(puts).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(won, 1, "round {round}");
    }

    let folder = subject.url("out/");
    let write = async |run: usize| {
        let written = Outputs::write(async |outputs| {
            let out = outputs.folder(&subject.storage, &folder, Others::Refused).await?;
            for file in 0..=run {
                out.put(&format!("{file}.csv"), format!("run {run}").as_bytes()).await?;
            }
            Ok(())
        });
        written.await.map(|((), _)| ())
    };
    let (store, path) = subject.storage.resolve(&folder).unwrap();
    for round in 0..3 {
        for written in future::join_all((0..4).map(&write)).await {
            written.unwrap();
        }
        let mut texts = Vec::new();
        for object in list(&*store, &path).await.unwrap() {
            if object.location.filename() != Some(MANIFEST) {
                texts.push(store.get(&object.location).await.unwrap().bytes().await.unwrap());
            }
        }
        let run: usize = std::str::from_utf8(&texts[0]).unwrap()["run ".len()..].parse().unwrap();
        assert_eq!(texts.len(), run + 1, "round {round}: all files of a run");
        assert!(texts.iter().all(|text| *text == texts[0]), "round {round}: of one run: {texts:?}");
    }
}

fn options<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>) -> Storage {
    Storage::new(options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())))
}

#[tokio::test]
async fn a_disk_keeps_objects_as_every_store_does() {
    let folder = tempfile::tempdir().unwrap();
    keeps_objects(Storage::new([]), &format!("{}/", folder.path().display()), true).await;
}

#[tokio::test]
async fn memory_keeps_objects_as_every_store_does() {
    keeps_objects(Storage::new([]), "memory:///base/", true).await;
    keeps_one_of_several_writers(Storage::new([]), "memory:///race/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_objects_as_every_store_does() {
    let server = S3Server::start("bucket");
    keeps_objects(options(server.environment()), "s3://bucket/base/", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_of_moto_keeps_objects_as_every_store_does() {
    let port = free_port();
    let mut command = Command::new(tool("COUNTERWEIGHT_MOTO").join("bin/python"));
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    let _server = Server::start(command, port);
    request(port, "PUT /bucket HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let endpoint = format!("http://127.0.0.1:{port}");
    let storage = || {
        options([
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ])
    };
    keeps_objects(storage(), "s3://bucket/base/", true).await;
    keeps_one_of_several_writers(storage(), "s3://bucket/race/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_objects_as_every_store_does() {
    let (port, folder, azurite) = (free_port(), tempfile::tempdir().unwrap(), tool("COUNTERWEIGHT_AZURITE"));
    let mut command = Command::new(azurite.join("node"));
    command.arg(azurite.join("node_modules/azurite/dist/src/blob/main.js"));
    command.args(["--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    command.arg("--location").arg(folder.path());
    let _server = Server::start(command, port);
    let endpoint = format!("http://127.0.0.1:{port}/{}", azure::ACCOUNT);
    azure::create_container(port, "container");
    let storage = || {
        options([
            ("AZURE_STORAGE_ACCOUNT_NAME", azure::ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", azure::KEY),
            ("AZURE_STORAGE_ENDPOINT", endpoint.as_str()),
            ("AZURE_ALLOW_HTTP", "true"),
        ])
    };
    keeps_objects(storage(), "az://container/base/", true).await;
    keeps_one_of_several_writers(storage(), "az://container/race/").await;
}

/// What Azurite knows of itself, and what no store does: to make a container.
mod azure {
    use counterweight::object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
    use counterweight::object_store::client::{HttpRequest, HttpRequestBody};

    pub(super) const ACCOUNT: &str = "devstoreaccount1";
    pub(super) const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    pub(super) fn create_container(port: u16, name: &str) {
        let url = format!("http://127.0.0.1:{port}/{ACCOUNT}/{name}?restype=container");
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = "PUT".parse().unwrap();
        *request.uri_mut() = url.parse().unwrap();
        request.headers_mut().insert("content-length", "0".parse().unwrap());
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
        AzureAuthorizer::new(&credential, ACCOUNT).authorize(&mut request);
        let mut text = format!("PUT /{ACCOUNT}/{name}?restype=container HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n");
        for (key, value) in request.headers() {
            text += &format!("{key}: {}\r\n", value.to_str().unwrap());
        }
        super::request(port, &(text + "connection: close\r\n\r\n"));
    }
}

/// The folder of a tool.
fn tool(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable);
    let folder = folder.unwrap_or_else(|| {
        panic!("{variable} is not set: run the tests by `make test`, or set a shell up with `eval \"$(make -s env)\"`")
    });
    folder.into()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Sends a request that must succeed.
fn request(port: u16, text: &str) {
    use std::io::{Read, Write};
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    server.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

/// A server on loopback, stopped when dropped.
struct Server(Child);

impl Server {
    fn start(mut command: Command, port: u16) -> Self {
        let server = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(60), "{command:?} does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
