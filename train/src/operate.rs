//! Works for an operator of another process: see [`counterweight::external`].

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use counterweight::command::{GlobalArgs, PATIENCE_OF_TRAINING, execute, interrupt, log_filter};
use counterweight::context::JobContext;
use counterweight::error::{Context, Result, invalid};
use counterweight::events::{Event, EventSink};
use counterweight::external::protocol::{Message, Request, Work, require_version};
use counterweight::job::Job;
use counterweight::operator::Operator;
use counterweight::redact::redact;
use counterweight::storage::Storage;
use counterweight_train::{ScoreOperator, TrainOperator};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) fn main(global: &GlobalArgs) -> ExitCode {
    tracing_subscriber::registry().with(Messages.with_filter(log_filter(global))).init();
    execute(global, "operate", PATIENCE_OF_TRAINING, async || {
        let outcome = operate().await;
        if let Err(error) = outcome {
            send(&Message::Failure(error.into()));
        }
        Ok(())
    })
}

async fn operate() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let sent: serde_json::Value =
        serde_json::from_str(&line).map_err(std::io::Error::from).context(|| "the request")?;
    require_version("the caller", sent["version"].as_str().unwrap_or_default())?;
    let Request { work, operator, job, storage, .. } = serde_json::from_value(sent).map_err(std::io::Error::from)?;

    let operator: Arc<dyn Operator> = match operator.as_str() {
        "train" => Arc::new(TrainOperator),
        "score" => Arc::new(ScoreOperator),
        _ => invalid!("there is no operator {operator:?} here"),
    };
    let interrupt = interrupt();
    cancel_with_stdin(interrupt.clone());
    let context = JobContext::builder(Job::parse(&job.text, &job.assignments)?)
        .storage(Arc::new(Storage::new(storage)))
        .events(Arc::new(Messages))
        .interrupt(interrupt)
        .build()?;
    match work {
        Work::Check => {
            for finding in operator.check(&context).await {
                send(&Message::Finding(finding.into()));
            }
        }
        Work::Run => send(&Message::Report(operator.run(&context).await?)),
    }
    Ok(())
}

/// Cancels `interrupt` once standard input ends: whoever asked wants no more, or is gone. The thread that waits for it
/// does not hold the process up.
fn cancel_with_stdin(interrupt: CancellationToken) {
    std::thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        interrupt.cancel();
    });
}

/// Writes a message, without what nobody is to see. Where nobody reads it, it is lost, and work goes on to its clean end.
fn send(message: &Message) {
    if let Ok(line) = serde_json::to_string(message) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{}", redact(&line)).and_then(|()| stdout.flush());
    }
}

/// Sends events and log lines as messages.
#[derive(Debug)]
struct Messages;

impl EventSink for Messages {
    fn emit(&self, event: Event) {
        send(&Message::Event(event));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &tracing::Event<'_>, _: LayerContext<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().to_string();
        self.emit(Event::Log { level, message: line.message + &line.fields });
    }
}

/// The text of a log line, with its fields after it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
