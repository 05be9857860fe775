//! Runs cells, each in a child process of its own.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use indicatif::ProgressBar;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::cell::{Cell, Finished, Outcome, Record, Store, identity};
use super::grid::Experiment;
use crate::error::{Context, DIVERGED, Error, Result, invalid};
use crate::job::settings_of;
use crate::model::Manifest;
use crate::model::Stop;
use crate::progress::progress_bar;
use crate::session::Bytes;

/// How long a process has to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes of a failed run's messages that its record keeps.
const ERROR_BYTES: usize = 4 << 10;

/// Runs cells, and knows the records of those that ran.
pub(super) struct Runner<'a> {
    experiment: &'a Experiment,
    store: &'a Store<'a>,
    options: &'a Options,
    parallel: usize,
    known: BTreeMap<String, Record>,
    progress: Progress,
}

impl<'a> Runner<'a> {
    pub(super) fn new(experiment: &'a Experiment, store: &'a Store<'a>, options: &'a Options) -> Result<Self> {
        let parallel = experiment.parallel.unwrap_or_else(|| room(experiment.threads, experiment.memory));
        let progress = Progress::new(options.report_only);
        Ok(Self { experiment, store, options, parallel, known: BTreeMap::new(), progress })
    }

    /// The records of the runs so far.
    pub(super) fn known(&self) -> &BTreeMap<String, Record> {
        &self.known
    }

    /// All records, at the end.
    pub(super) fn finish(self) -> BTreeMap<String, Record> {
        self.known
    }

    /// Runs those of `cells` that have not finished in this run of the experiment or an earlier one, and says whether
    /// there is a record of each: only [`Options::report_only`] leaves some without.
    pub(super) async fn run(&mut self, cells: Vec<Cell>) -> Result<bool> {
        let mut open: BTreeMap<String, Cell> = BTreeMap::new();
        let mut complete = true;
        for cell in cells {
            if self.known.contains_key(&cell.id) || open.contains_key(&cell.id) {
                continue;
            }
            match self.store.read(&cell.id).await? {
                Some(record) if record.is_final() || self.options.report_only => {
                    self.progress.found();
                    self.known.insert(cell.id, record);
                }
                None if self.options.report_only => complete = false,
                _ => drop(open.insert(cell.id.clone(), cell)),
            }
        }
        self.progress.start(open.len());
        let mut order: Vec<Cell> = open.into_values().collect();
        order.sort_by_key(|cell| (cell.data, cell.seed, cell.method, cell.candidate));
        let mut records = stream::iter(order).map(|cell| self.run_cell(cell)).buffer_unordered(self.parallel);
        let mut done = Vec::new();
        while let Some(record) = records.next().await {
            done.extend(record?);
        }
        drop(records);
        self.known.extend(done.into_iter().map(|record| (record.id.clone(), record)));
        if self.options.interrupt.is_cancelled() {
            let finished = self.known.len();
            return Err(Error::Unfinished(format!(
                "interrupted after {finished} runs, which are kept; the same command goes on from there"
            )));
        }
        Ok(complete)
    }

    /// Runs a cell and writes its record; none where that was interrupted.
    async fn run_cell(&self, cell: Cell) -> Result<Option<Record>> {
        let interrupt = &self.options.interrupt;
        if interrupt.is_cancelled() {
            return Ok(None);
        }
        let start = Instant::now();
        let mut command = self.command(&cell)?;
        let mut child = command.spawn().context(|| format!("cannot start {}", self.options.program.display()))?;
        let Some(failure) = failure(&mut child, interrupt).await? else { return Ok(None) };
        let outcome = match failure {
            Some((Some(code), error)) if code == i32::from(DIVERGED) => Outcome::Diverged { error },
            Some((_, error)) => Outcome::Failed { error },
            None => self.outcome(&cell).await?,
        };
        let record = Record { id: cell.id.clone(), wall_seconds: start.elapsed().as_secs_f64(), outcome };
        let record = self.store.write(&record).await?;
        if !self.experiment.keep_models {
            let model = self.store.model(&cell.id)?;
            self.store.storage().remove_folder(&model).await.context(|| format!("cannot remove {model}"))?;
        }
        self.progress.done(&cell.name(self.experiment), &record);
        Ok(Some(record))
    }

    fn command(&self, cell: &Cell) -> Result<Command> {
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.arguments).args(["--log", "error", "--log-format", "text"]);
        command.args(["--threads", &self.experiment.threads.to_string()]);
        command.arg("train").arg(&self.experiment.job).arg("--until-stdin-ends");
        for assignment in &cell.assignments {
            command.args(["--set", assignment]);
        }
        command.args(["--set", &format!("train.output={}", self.store.model(&cell.id)?)]);
        // A terminal's Ctrl-C goes to a whole process group: the runs hear of it from us.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(command)
    }

    /// What the manifest says of the model that a run wrote.
    async fn outcome(&self, cell: &Cell) -> Result<Outcome> {
        let model = self.store.model(&cell.id)?;
        let Manifest { data, training, job, .. } = Manifest::read(self.store.storage(), &model).await?;
        if identity(&settings_of(&job)) != cell.id {
            invalid!(
                "the job file {} has changed while the experiment ran; start it again",
                self.experiment.job.display()
            );
        }
        if let Stop::Interrupted { epoch } = training.stop {
            return Ok(Outcome::Failed { error: format!("interrupted by somebody else at epoch {epoch}") });
        }
        Ok(Outcome::Finished(Box::new(Finished { data, training })))
    }
}

/// Waits for a process: none where it was interrupted, else, if it failed, its exit code and error.
async fn failure(child: &mut Child, interrupt: &CancellationToken) -> Result<Option<Option<(Option<i32>, String)>>> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let ended = async {
        let mut messages = Vec::new();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut messages).await?;
        }
        Ok::<_, Error>((child.wait().await?, messages))
    };
    let (status, messages) = tokio::select! {
        ended = ended => ended?,
        () = interrupt.cancelled() => {
            drop(stdin);
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                child.kill().await?;
            }
            return Ok(None);
        }
    };
    // It may have ended because of the interruption.
    if interrupt.is_cancelled() {
        return Ok(None);
    }
    if status.success() {
        return Ok(Some(None));
    }
    let kept = &messages[messages.len().saturating_sub(ERROR_BYTES)..];
    let text = String::from_utf8_lossy(kept).trim().trim_start_matches("counterweight: ").to_owned();
    let text = if text.is_empty() { format!("the process ended with {status}, and said nothing") } else { text };
    Ok(Some(Some((status.code(), text))))
}

/// How many runs fit the machine.
fn room(threads: usize, memory: Bytes) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) / threads;
    let fit = available_memory().map_or(cores, |available| (available / memory.0) as usize);
    cores.min(fit).max(1)
}

/// Bytes that processes can have without pushing others out; unknown but on Linux.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Progress of the runs: a bar on a terminal, log lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    found: u64,
}

impl Progress {
    fn new(hidden: bool) -> Self {
        let bar = || progress_bar("{pos}/{len} runs {wide_bar} {msg} [{elapsed}, {eta} left]", 0);
        Self { bar: (!hidden && std::io::stderr().is_terminal()).then(bar), found: 0 }
    }

    /// A run was done before.
    fn found(&mut self) {
        self.found += 1;
    }

    /// So many runs are to be done.
    fn start(&mut self, runs: usize) {
        if let Some(bar) = &self.bar {
            bar.inc_length(runs as u64);
            bar.enable_steady_tick(Duration::from_secs(1));
        } else if self.found > 0 || runs > 0 {
            tracing::info!(found = self.found, to_do = runs, "runs");
        }
        self.found = 0;
    }

    fn done(&self, name: &str, record: &Record) {
        let Some(Finished { training, .. }) = record.finished() else {
            let first = record.error().and_then(|error| error.lines().next()).unwrap_or_default();
            match &self.bar {
                Some(bar) => bar.suspend(|| tracing::warn!("{name}: {first}")),
                None => tracing::warn!("{name}: {first}"),
            }
            self.bar.iter().for_each(|bar| bar.inc(1));
            return;
        };
        let metrics = training.test.as_ref().unwrap_or(&training.validation);
        match &self.bar {
            Some(bar) => {
                bar.set_message(name.to_owned());
                bar.inc(1);
            }
            None => tracing::info!(
                seconds = record.wall_seconds,
                auc = metrics.auc,
                recall = metrics.recall,
                ndcg = metrics.ndcg,
                "ran {name}"
            ),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(script: &str, interrupt: &CancellationToken) -> Option<Option<(Option<i32>, String)>> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        failure(&mut command.spawn().unwrap(), interrupt).await.unwrap()
    }

    #[tokio::test]
    async fn a_process_succeeds_or_says_why_not() {
        let never = CancellationToken::new();
        assert_eq!(ended("exit 0", &never).await, Some(None));
        assert_eq!(ended("echo 'counterweight: no' >&2; exit 3", &never).await, Some(Some((Some(3), "no".to_owned()))));
        let (code, killed) = ended("kill -9 $$", &never).await.unwrap().unwrap();
        assert!(code.is_none() && killed.contains("signal: 9"), "{killed}");
    }

    #[tokio::test]
    async fn an_interrupt_ends_standard_input() {
        let interrupt = CancellationToken::new();
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let script = format!("cat > /dev/null; touch {}", heard.display());
        let soon = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!heard.exists());
            interrupt.cancel();
        };
        let (outcome, ()) = tokio::join!(ended(&script, &interrupt), soon);
        assert_eq!(outcome, None);
        assert!(heard.exists(), "the process ended by itself");
    }

    #[test]
    fn there_is_room_for_one_run_at_least() {
        assert_eq!(room(1 << 20, Bytes(1)), 1);
        assert_eq!(room(1, Bytes(u64::MAX)), 1);
        assert!(room(1, Bytes(1)) <= std::thread::available_parallelism().unwrap().get());
    }
}
