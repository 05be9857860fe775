//! A real S3-compatible server on loopback, for one test; stopped when dropped.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";

pub(crate) struct S3Server {
    process: Child,
    endpoint: String,
    root: TempDir,
}

impl S3Server {
    /// Starts a server whose one bucket is `bucket`.
    pub(crate) fn start(bucket: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(bucket)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(binary())
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg(root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, endpoint: format!("http://127.0.0.1:{port}"), root };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the S3 server does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// What a process needs in its environment to use this server, in the vocabulary of the AWS tools.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ]
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Makes an object.
    pub(crate) fn write(&self, bucket: &str, name: &str, bytes: &[u8]) {
        std::fs::write(self.root.path().join(bucket).join(name), bytes).unwrap();
    }

    /// The content of an object.
    pub(crate) fn read(&self, bucket: &str, name: &str) -> Vec<u8> {
        std::fs::read(self.root.path().join(bucket).join(name)).unwrap()
    }

    /// The names of the objects in `bucket` under `prefix`, as they lie on the server's disk.
    pub(crate) fn objects(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut names = Vec::new();
        let base = self.root.path().join(bucket);
        let mut folders = vec![base.join(prefix)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => names.push(path.strip_prefix(&base).unwrap().to_string_lossy().into_owned()),
                }
            }
        }
        names.sort();
        names
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn binary() -> PathBuf {
    let path = std::env::var_os("COUNTERWEIGHT_S3_SERVER").map(PathBuf::from);
    path.filter(|path| path.exists()).expect(
        "COUNTERWEIGHT_S3_SERVER does not name an s3s-fs binary: run the tests by `make test`, \
         or set a shell up with `eval \"$(make -s env)\"` after one",
    )
}
