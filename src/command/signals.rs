//! SIGINT and SIGTERM: the first asks for a clean end, the second ends the process.
//!
//! A thread of its own waits for them, so that they are heard while every other thread computes; it is there before any work
//! begins, and for the first process of a container, too, whose signals the system would else ignore.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::progress;
use crate::error::Result;
use crate::output;

/// Exit codes of a process that a signal ended are this and the signal's number.
const ENDED_BY: i32 = 128;

static TOKEN: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
/// The first signal; 0 before it.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// Whether SIGINT is somebody else's: it ends a query of a shell, and not the shell.
static SHELL: AtomicBool = AtomicBool::new(false);

/// A token that the first SIGINT or SIGTERM cancels.
pub fn interrupt() -> CancellationToken {
    TOKEN.clone()
}

/// Leaves SIGINT to a shell, for as long as the process lives.
pub fn leave_interrupts() {
    SHELL.store(true, SeqCst);
}

/// The exit code of a process that was asked to end, once it was.
pub(super) fn exit_code() -> Option<u8> {
    match RECEIVED.load(SeqCst) {
        0 => None,
        signal => u8::try_from(ENDED_BY + signal).ok(),
    }
}

/// Listens from now on. Work that has not ended `patience` after the first signal is ended as by a second one.
///
/// # Errors
/// Where signals cannot be listened to.
pub(super) fn listen(patience: Duration) -> Result<()> {
    let (ready, listening) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listened = runtime.and_then(|runtime| runtime.block_on(wait(patience, &ready)));
        // Where it is listening, it is for ever.
        let _ = ready.send(listened);
    });
    Ok(listening.recv().unwrap_or(Ok(()))?)
}

async fn wait(patience: Duration, ready: &mpsc::Sender<std::io::Result<()>>) -> std::io::Result<()> {
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let (mut interrupts, mut terminates) = (signal(interrupt)?, signal(terminate)?);
    let _ = ready.send(Ok(()));
    loop {
        let received = tokio::select! {
            _ = interrupts.recv() => interrupt,
            _ = terminates.recv() => terminate,
            () = tokio::time::sleep(patience), if RECEIVED.load(SeqCst) != 0 => end(),
        };
        if received == interrupt && SHELL.load(SeqCst) {
            continue;
        }
        if RECEIVED.swap(received.as_raw_value(), SeqCst) != 0 {
            end();
        }
        TOKEN.cancel();
        tracing::warn!("asked to end: ending cleanly; ask again to end at once");
    }
}

/// Ends the process, without what is staged on disks.
fn end() -> ! {
    output::abandon();
    progress::clear();
    // SAFETY: it takes a number, and never returns. Threads that compute are not waited for, nor is anything destructed
    // that they use.
    unsafe { nix::libc::_exit(exit_code().map_or(1, i32::from)) }
}
