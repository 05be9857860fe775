//! A proxy on loopback that does to answers what networks and stores do to them; stopped when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;

/// What becomes of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It comes as it is.
    None,
    /// Another in its place: a status, and a header and a body beside it.
    Status(&'static str, &'static str, &'static str),
    /// It ends after so many bytes.
    Cut(usize),
    /// It comes in this many pieces, a quarter of a second apart.
    Slow(usize),
    /// There is none.
    Silence,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy to `upstream`: `plan` is given a request's first line, and how many came before it.
    pub(crate) fn start(upstream: &str, plan: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let (plan, counted, ended) = (Arc::new(plan), Arc::clone(&requests), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(SeqCst) {
                    return;
                }
                let (plan, counted, upstream) = (Arc::clone(&plan), Arc::clone(&counted), upstream.clone());
                let ended = Arc::clone(&ended);
                // A client that is gone is none of ours.
                std::thread::spawn(move || serve(client?, &upstream, &*plan, &counted, &ended));
            }
        });
        Self { address, requests, stopped }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one request of a connection.
fn serve(
    mut client: TcpStream,
    upstream: &str,
    plan: &(dyn Fn(&str, usize) -> Fault + Send + Sync),
    counted: &AtomicUsize,
    stopped: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(bytes) = lower.strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head += &line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = head.lines().next().unwrap_or_default().to_owned();
    let fault = plan(&request, counted.fetch_add(1, SeqCst));
    match fault {
        Fault::Status(status, header, body) => {
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
            return client.write_all(answer.as_bytes());
        }
        Fault::Silence => {
            while !stopped.load(SeqCst) {
                sleep(Duration::from_millis(50));
            }
            return Ok(());
        }
        Fault::None | Fault::Cut(_) | Fault::Slow(_) => {}
    }
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    match fault {
        Fault::Cut(bytes) => client.write_all(&answer[..bytes.min(answer.len())]),
        Fault::Slow(pieces) => answer.chunks(answer.len().div_ceil(pieces)).try_for_each(|piece| {
            sleep(Duration::from_millis(250));
            client.write_all(piece)
        }),
        _ => client.write_all(&answer),
    }
}
