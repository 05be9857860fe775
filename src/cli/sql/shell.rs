use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Instant;

use counterweight::command::leave_interrupts;
use counterweight::error::{Error, Result};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::encode::Output;
use super::execute::{Outcome, Runner};
use super::source::{is_complete, parse};

const HELP: &str = r"Statements end in ; and may span lines. A table may be named by path or URL:
  SELECT count(*) FROM 's3://bucket/log/*.parquet';

\d           list the tables
\d TABLE     list the columns of a table; of a file, quoted: \d 'log.parquet'
\df [NAME]   list the functions, or those whose name holds NAME
\? or \h     show this help
\q           quit, as does Ctrl-D
";

/// Reads statements from the terminal until `\q` or Ctrl-D; errors are shown and end nothing.
pub(super) async fn run(session: SessionContext, output: Output) -> Result<()> {
    leave_interrupts();
    let mut editor = Editor::<SqlHelper, FileHistory>::new().map_err(terminal_error)?;
    let history = history_file();
    if let Some(history) = &history {
        // There is none the first time.
        editor.load_history(history).ok();
    }
    let mut runner = Runner::new(session, output);
    println!("counterweight {}: \\? for help, \\q to quit", env!("CARGO_PKG_VERSION"));
    loop {
        editor.set_helper(Some(SqlHelper { words: words(&runner.session) }));
        let line = match tokio::task::block_in_place(|| editor.readline("> ")) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal_error(error)),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        editor.add_history_entry(line).map_err(terminal_error)?;
        if matches!(line.trim_end_matches(';'), r"\q" | "quit" | "exit") {
            break;
        }
        tokio::select! {
            ran = run_line(&mut runner, line) => if let Err(error) = ran {
                eprintln!("error: {error}");
            },
            Ok(()) = tokio::signal::ctrl_c() => eprintln!("interrupted"),
        }
    }
    if let Some(history) = &history {
        save_history(&mut editor, history);
    }
    Ok(())
}

async fn run_line(runner: &mut Runner, line: &str) -> Result<()> {
    let text = match line.strip_prefix('\\') {
        None => Cow::Borrowed(line),
        Some(command) => {
            let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
            match (name, argument.trim_end_matches(';').trim()) {
                ("d", "") => Cow::Borrowed(
                    "SELECT table_schema, table_name, table_type FROM information_schema.tables \
                     WHERE table_schema <> 'information_schema' ORDER BY 1, 2",
                ),
                ("d", table) => Cow::Owned(format!("DESCRIBE {table}")),
                ("df", name) => Cow::Owned(format!(
                    "SELECT routine_name AS name, function_type AS kind, min(description) AS description \
                     FROM information_schema.routines WHERE strpos(routine_name, '{}') > 0 GROUP BY 1, 2 ORDER BY 1",
                    name.replace('\'', "''")
                )),
                ("?" | "h" | "help", _) => {
                    print!("{HELP}");
                    return Ok(());
                }
                _ => return Err(Error::Invalid(format!("\\{name} is no command; \\? lists them"))),
            }
        }
    };
    for statement in parse("line", &text)? {
        let start = Instant::now();
        let seconds = |start: Instant| start.elapsed().as_secs_f64();
        match runner.run(statement.parsed).await? {
            Outcome::Done => println!("done in {:.3} s", seconds(start)),
            Outcome::Wrote(rows) => println!("wrote {rows} rows in {:.3} s", seconds(start)),
            Outcome::Rows(rows) => println!("{rows} rows in {:.3} s", seconds(start)),
        }
    }
    Ok(())
}

fn terminal_error(error: ReadlineError) -> Error {
    Error::Io(std::io::Error::other(error))
}

/// `counterweight/history` in the user's state directory.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    Some(state.join("counterweight/history"))
}

fn save_history(editor: &mut Editor<SqlHelper, FileHistory>, file: &std::path::Path) {
    let saved = file.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(ReadlineError::Io);
    if let Err(error) = saved.and_then(|()| editor.save_history(file)) {
        tracing::warn!("cannot keep the history in {}: {error}", file.display());
    }
}

/// What Tab may complete to: keywords, functions and tables.
fn words(session: &SessionContext) -> Vec<String> {
    let state = session.state();
    let functions = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    let functions = functions.chain(state.window_functions().keys()).cloned();
    let schemas = session.catalog_names().into_iter().filter_map(|name| session.catalog(&name));
    let schemas = schemas.flat_map(|catalog| {
        catalog.schema_names().into_iter().filter_map(move |name| catalog.schema(&name)).collect::<Vec<_>>()
    });
    let tables = schemas.flat_map(|schema| schema.table_names());
    let mut words: Vec<_> =
        ALL_KEYWORDS.iter().map(|keyword| (*keyword).to_owned()).chain(functions).chain(tables).collect();
    words.sort_unstable();
    words.dedup();
    words
}

struct SqlHelper {
    words: Vec<String>,
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let start = typed
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |index| index + typed[index..].chars().next().map_or(0, char::len_utf8));
        let prefix = typed[start..].to_lowercase();
        if prefix.is_empty() {
            return Ok((start, Vec::new()));
        }
        Ok((start, self.words.iter().filter(|word| word.to_lowercase().starts_with(&prefix)).cloned().collect()))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim_start();
        let ended = text.starts_with('\\') || matches!(text, "quit" | "exit") || is_complete(text);
        Ok(if ended { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Highlighter for SqlHelper {}

impl Helper for SqlHelper {}
