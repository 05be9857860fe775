//! Operators that run in another process: training and scoring, by the executable `counterweight-train`, which alone needs
//! libtorch.

mod program;
pub mod protocol;

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

pub use program::Program;

use self::protocol::{Message, Request, Work};
use crate::context::JobContext;
use crate::error::{Context, Error, Result, invalid};
use crate::operator::{Finding, Operator, Report};

/// How long a process has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(30);
/// Bytes of a process's standard error that are kept for the message of its failure.
const STDERR_BYTES: u64 = 4 << 10;

/// An operator whose work another process does.
///
/// The process parses the job again, from [`Job::source`](crate::job::Job::source), and has a session and stores of its own:
/// the options of [`Storage`](crate::storage::Storage) reach it, stores and tables that a host registered do not. Its
/// events become those of the context, and cancellation reaches it as SIGTERM. It ends when this process does.
#[derive(Debug, Clone)]
pub struct ExternalOperator {
    name: &'static str,
    program: Program,
}

impl ExternalOperator {
    /// Trains the models of `[train]`.
    pub fn train() -> Self {
        Self { name: "train", program: Program::default() }
    }

    /// Scores the table of `[score]`.
    pub fn score() -> Self {
        Self { name: "score", program: Program::default() }
    }

    /// The same by another executable.
    pub fn with_program(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// Lets a process do `work`, and gives what it found and reported.
    async fn process(&self, work: Work, context: &JobContext) -> Result<(Vec<Finding>, Option<Report>)> {
        let program = self.program.path()?;
        let mut command = Command::new(&program);
        command.arg("operate").kill_on_drop(true);
        if let Some(threads) = context.job.session.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A terminal's Ctrl-C goes to a whole process group: the process hears of it from us.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| program::cannot_start(&program, &error.to_string()))?;

        let mut request = serde_json::to_vec(&Request::new(work, self.name, context)).map_err(std::io::Error::from)?;
        request.push(b'\n');
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            invalid!("{} has no standard streams", program.display());
        };
        let stderr = tokio::spawn(tail(stderr));
        // Where the process is gone already, its exit says why. It ends when its standard input does: `stdin` lives on.
        let _ = stdin.write_all(&request).await;
        let mut messages = Box::pin(read_messages(stdout, context));
        let read = tokio::select! {
            read = &mut messages => read,
            () = context.interrupt.cancelled() => {
                terminate(&child);
                match tokio::time::timeout(GRACE, messages).await {
                    Ok(read) => read,
                    Err(_) => {
                        child.kill().await?;
                        return Err(Error::Interrupted);
                    }
                }
            }
        };
        self.conclude(read?, child, stderr, &program).await
    }

    /// The outcome of a process whose messages have ended.
    async fn conclude(
        &self,
        Messages { findings, report, failure }: Messages,
        mut child: Child,
        stderr: JoinHandle<Vec<u8>>,
        program: &std::path::Path,
    ) -> Result<(Vec<Finding>, Option<Report>)> {
        let status = child.wait().await?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !status.success() {
            let said = stderr.await.unwrap_or_default();
            return Err(program::ended_early(program, status, String::from_utf8_lossy(&said).trim()));
        }
        Ok((findings, report))
    }
}

#[async_trait]
impl Operator for ExternalOperator {
    fn name(&self) -> &str {
        self.name
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        match self.process(Work::Check, context).await {
            Ok((findings, _)) => findings,
            Err(error) => vec![Finding::new(format!("[{}]", self.name), Err(error))],
        }
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        match self.process(Work::Run, context).await? {
            (_, Some(report)) => Ok(report),
            (_, None) => invalid!("{} ended without a report", self.program.path()?.display()),
        }
    }
}

/// What a process told.
#[derive(Debug, Default)]
struct Messages {
    findings: Vec<Finding>,
    report: Option<Report>,
    failure: Option<Error>,
}

/// Reads messages until they end, and passes events on.
async fn read_messages(stdout: ChildStdout, context: &JobContext) -> Result<Messages> {
    let mut lines = BufReader::new(stdout).lines();
    let mut messages = Messages::default();
    while let Some(line) = lines.next_line().await? {
        let message = serde_json::from_str(&line).map_err(std::io::Error::from);
        match message.context(|| format!("counterweight-train told what is no message, {line:?}"))? {
            Message::Event(event) => context.events.emit(event),
            Message::Finding(finding) => messages.findings.push(finding.into()),
            Message::Report(report) => messages.report = Some(report),
            Message::Failure(problem) => messages.failure = Some(problem.into()),
        }
    }
    Ok(messages)
}

/// The last bytes of a stream, which is read to its end.
async fn tail(mut stream: ChildStderr) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES as usize));
    }
    kept
}

/// Asks a process to end: as SIGTERM does, or where there are no signals at once.
fn terminate(child: &Child) {
    #[cfg(unix)]
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
    }
}
