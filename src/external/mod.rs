//! Operators that run in another process: training and scoring, by the executable `counterweight-train`, which alone needs
//! libtorch.

mod program;
pub mod protocol;
mod waiting;

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
pub use program::Program;
pub use waiting::waiting;

use self::protocol::{Message, Request, Work};
use crate::context::JobContext;
use crate::error::{Context, Error, Result, invalid};
use crate::operator::{Finding, Operator, Report};

/// How long a process has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(30);
/// How long the standard error of a process that has ended may take to end, too.
const SAID: Duration = Duration::from_secs(2);
/// Bytes of a process's standard error that are kept for the message of its failure.
const STDERR_BYTES: usize = 4 << 10;
/// Characters that are shown of a line that is not a message.
const SHOWN_CHARS: usize = 200;

/// An operator whose work another process does.
///
/// The process parses the job again, from [`Job::source`](crate::job::Job::source), and has a session and stores of its own:
/// the options of [`Storage`](crate::storage::Storage) reach it, stores and tables that a host registered do not. Its
/// events become those of the context, and cancellation reaches it as SIGTERM. It ends when this process does.
#[derive(Debug, Clone)]
pub struct ExternalOperator {
    name: &'static str,
    program: Program,
    beside_others: bool,
}

impl ExternalOperator {
    /// Trains the models of `[train]`.
    pub fn train() -> Self {
        Self { name: "train", program: Program::default(), beside_others: false }
    }

    /// Scores the table of `[score]`.
    pub fn score() -> Self {
        Self { name: "score", program: Program::default(), beside_others: false }
    }

    /// The same by another executable.
    pub fn with_program(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// The same, for processes that run side by side: threads that wait for one another leave the processors to others.
    pub fn beside_others(self) -> Self {
        Self { beside_others: true, ..self }
    }

    /// Lets a process do `work`, and gives what it found and reported.
    async fn process(&self, work: Work, context: &JobContext) -> Result<(Vec<Finding>, Option<Report>)> {
        let program = self.program.path()?;
        let mut command = Command::new(&program);
        let beside_others = || self.beside_others || context.job.session.beside_others;
        command.arg("operate").envs(waiting(beside_others)).kill_on_drop(true);
        if let Some(threads) = context.job.session.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A terminal's Ctrl-C goes to a whole process group: the process hears of it from us.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| program::cannot_start(&program, &error.to_string()))?;

        let mut request = serde_json::to_vec(&Request::new(work, self.name, context)).map_err(std::io::Error::from)?;
        request.push(b'\n');
        let id = child.id();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            invalid!("{} has no standard streams", program.display());
        };
        let stderr = tokio::spawn(tail(stderr));
        let mut ended = Box::pin(async {
            // Where the process is gone already, its exit says why. It ends when its standard input does: `stdin` lives on.
            let write = async {
                let _ = stdin.write_all(&request).await;
                Ok(())
            };
            let read = async { read_messages(stdout, context).await.context(|| program.display()) };
            let (messages, ()) = tokio::try_join!(read, write)?;
            Ok::<_, Error>((messages, child.wait().await?))
        });
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = context.interrupt.cancelled() => {
                signal_group(id, Signal::SIGTERM);
                match tokio::time::timeout(GRACE, ended).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        signal_group(id, Signal::SIGKILL);
                        child.kill().await?;
                        return Err(Error::Interrupted);
                    }
                }
            }
        };
        let (Messages { findings, report, failure }, status) = ended?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let reported = context.interrupt.is_cancelled() && report.is_some();
        if !status.success() && !reported {
            // It may not have got as far as to end cleanly.
            if context.interrupt.is_cancelled() {
                return Err(Error::Interrupted);
            }
            // What it has started may hold its standard error open.
            let said = tokio::time::timeout(SAID, stderr).await.ok().and_then(Result::ok).unwrap_or_default();
            return Err(program::ended_early(&program, status, String::from_utf8_lossy(&said).trim()));
        }
        Ok((findings, report))
    }

    /// The error of a process that ended well, and did not say what was asked.
    fn without<T>(&self, what: &str) -> Result<T> {
        invalid!("{} ended without {what}", self.program.path()?.display())
    }
}

#[async_trait]
impl Operator for ExternalOperator {
    fn name(&self) -> &str {
        self.name
    }

    async fn check(&self, context: &JobContext) -> Vec<Finding> {
        match self.process(Work::Check, context).await {
            Ok((findings, _)) if !findings.is_empty() => findings,
            Ok(_) => vec![Finding::new(format!("[{}]", self.name), self.without("a finding"))],
            Err(error) => vec![Finding::new(format!("[{}]", self.name), Err(error))],
        }
    }

    async fn run(&self, context: &JobContext) -> Result<Report> {
        match self.process(Work::Run, context).await? {
            (_, Some(report)) => Ok(report),
            (_, None) => self.without("a report"),
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
        let shown = || line.chars().take(SHOWN_CHARS).collect::<String>();
        match message.context(|| format!("its standard output has a line that is not a message, {:?}", shown()))? {
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
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    kept
}

/// Sends a signal to a process and to those that it has started: each process leads a group of its own.
fn signal_group(id: Option<u32>, signal: Signal) {
    if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
        // A process that is gone needs no signal.
        let _ = killpg(Pid::from_raw(id), signal);
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::program::tests::script;
    use super::*;
    use crate::job::Job;

    /// A context whose request fills more than a pipe.
    fn context() -> JobContext {
        let text = format!("name = \"x\"\n# {}\n", "-".repeat(1 << 20));
        JobContext::builder(Job::parse(&text, &[]).unwrap()).build().unwrap()
    }

    fn operator(folder: &std::path::Path, text: &str) -> ExternalOperator {
        ExternalOperator::train().with_program(script(folder, text))
    }

    #[tokio::test]
    async fn a_process_that_keeps_to_no_protocol_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let long = "head -c 100000 /dev/zero | tr '\\0' x";
        for (text, expected) in [
            ("echo garbage", "a line that is not a message, \"garbage\""),
            (r"printf '\377\n'", "UTF-8"),
            (long, "xxx"),
            ("exit 0", "ended without a report"),
            ("echo broken >&2; exit 7", "exit status: 7: broken"),
        ] {
            let error = operator(folder.path(), text).run(&context()).await.unwrap_err().to_string();
            assert!(error.contains(&path) && error.to_lowercase().contains(&expected.to_lowercase()), "{error}");
            assert!(error.len() < 1000, "{error}");
        }
        let findings = operator(folder.path(), "exit 0").check(&context()).await;
        let error = Finding::all(findings).unwrap_err().to_string();
        assert!(error.contains("ended without a finding"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended_by_an_interrupt() {
        let folder = tempfile::tempdir().unwrap();
        // It reads no request; or what it tells has ended, and it has not.
        for text in ["exec sleep 60", "cat > /dev/null & exec sleep 60 >&-"] {
            let (operator, context) = (operator(folder.path(), text), context());
            let run = operator.run(&context);
            let interrupt = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                context.interrupt.cancel();
            };
            let ended = tokio::time::timeout(GRACE / 2, async { tokio::join!(run, interrupt).0 });
            let error = ended.await.expect(text).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{error}");
        }
    }
}
