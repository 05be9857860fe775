//! Starts the executable, ends it, and waits for all that it has started.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn binary() -> PathBuf {
    std::env::var_os("COUNTERWEIGHT_FAULTS_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_counterweight").into(), PathBuf::from)
}

pub(crate) fn seed() -> u64 {
    let seed = std::env::var("COUNTERWEIGHT_FAULTS_SEED").map_or_else(
        |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs(),
        |seed| seed.parse().expect("COUNTERWEIGHT_FAULTS_SEED is an integer"),
    );
    println!("COUNTERWEIGHT_FAULTS_SEED={seed}");
    seed
}

/// The executable in a folder, with nothing of the caller's environment that would change what it does.
pub(crate) fn counterweight(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("AWS_") || key.starts_with("COUNTERWEIGHT_")) {
        command.env_remove(key);
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A run in a process group of its own.
pub(crate) struct Run(Child);

impl Run {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    pub(crate) fn send(&self, signal: Signal) {
        // A process that has ended is a zombie until it is waited for, so that this is never another's.
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the run, and for what it has started. `Err` says what still runs.
    pub(crate) fn end(mut self) -> Result<(ExitStatus, String), String> {
        let group = self.pid().as_raw();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.0.kill().unwrap();
                self.0.wait().unwrap();
                return Err(format!("still runs after {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        while let Some(process) = living(group) {
            if Instant::now() > deadline {
                kill(Pid::from_raw(process), Signal::SIGKILL).ok();
                return Err(format!("a process that it started still runs after {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut stderr).unwrap();
        Ok((status, stderr))
    }
}

/// A process of the group that is no zombie.
fn living(group: i32) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let process = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // `pid (name) state parent group …`; a name may hold spaces and parentheses.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let of: i32 = fields.nth(1)?.parse().ok()?;
        (of == group && state != "Z" && state != "X").then_some(process)
    })
}
