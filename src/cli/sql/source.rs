use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use counterweight::error::{Context, Error, Result};
use counterweight::storage::{Storage, parse_url};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

/// Where statements come from, in the order of the command line.
#[derive(Debug)]
pub(super) struct Sources(Vec<Source>);

#[derive(Debug)]
enum Source {
    Command(String),
    File(String),
}

/// A statement, and where it stands.
#[derive(Debug)]
pub(super) struct Located {
    /// `queries.sql:12`, and the statement's number where there are several.
    pub(super) place: String,
    pub(super) parsed: Statement,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads and parses all sources; standard input where none was given.
    pub(super) async fn read(self, storage: &Storage) -> Result<Vec<Located>> {
        let sources = if self.0.is_empty() { vec![Source::File("-".to_owned())] } else { self.0 };
        let mut statements = Vec::new();
        for source in sources {
            let (name, text) = match source {
                Source::Command(text) => ("-c".to_owned(), text),
                Source::File(name) if name == "-" => ("stdin".to_owned(), read_stdin()?),
                Source::File(name) => {
                    let bytes = storage.read(&parse_url(&name)?).await?;
                    let text = String::from_utf8(bytes).map_err(|_| Error::Invalid(format!("{name} is not UTF-8")))?;
                    (name, text)
                }
            };
            statements.extend(parse(&name, &text)?);
        }
        Ok(statements)
    }
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context(|| "cannot read standard input")?;
    Ok(text)
}

/// The statements of `text`, which `;` separates. Messages call the text `name`.
///
/// # Errors
/// Where one does not parse: the message names its place.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Located>> {
    let tokens =
        tokenize(text).map_err(|error| Error::Invalid(format!("{name}:{}: {}", error.location.line, error.message)))?;
    let is_code = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let groups = tokens.split(|token| token.token == Token::SemiColon);
    let groups: Vec<_> =
        groups.filter_map(|group| Some((group.iter().find(is_code)?.span.start.line, group))).collect();
    let mut statements = Vec::with_capacity(groups.len());
    for (index, (line, group)) in groups.iter().enumerate() {
        let place = match groups.len() {
            1 => format!("{name}:{line}"),
            _ => format!("{name}:{line}: statement {}", index + 1),
        };
        let parsed = DFParserBuilder::new(group.to_vec()).build().and_then(|mut parser| parser.parse_statements());
        let parsed = parsed.map_err(|error| syntax_error(&place, error))?;
        statements.extend(parsed.into_iter().map(|parsed| Located { place: place.clone(), parsed }));
    }
    Ok(statements)
}

fn syntax_error(place: &str, error: DataFusionError) -> Error {
    match error {
        DataFusionError::SQL(error, _) => match *error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                Error::Invalid(format!("{place}: {message}"))
            }
            error => Error::Invalid(format!("{place}: {error}")),
        },
        error => Error::Invalid(format!("{place}: {}", error.strip_backtrace())),
    }
}

/// Whether `text` ends with a `;` that is not inside a string or comment.
pub(super) fn is_complete(text: &str) -> bool {
    let Ok(tokens) = tokenize(text) else { return false };
    tokens
        .iter()
        .rfind(|token| !matches!(token.token, Token::Whitespace(_)))
        .is_none_or(|token| token.token == Token::SemiColon)
}

fn tokenize(text: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    Tokenizer::new(&GenericDialect {}, text).tokenize_with_location()
}

impl Args for Sources {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new("command")
                    .short('c')
                    .long("command")
                    .value_name("SQL")
                    // A statement may begin with a comment: `-- …`.
                    .allow_hyphen_values(true)
                    .action(ArgAction::Append)
                    .help("Run these statements; may be repeated, and mixed with -f: they run in the order given"),
            )
            .arg(
                Arg::new("file")
                    .short('f')
                    .long("file")
                    .value_name("FILE")
                    .action(ArgAction::Append)
                    .help("Run the statements of this file, a path or URL, or `-` for standard input; may be repeated"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Sources {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of = |id: &str, source: fn(String) -> Source| {
            let values = matches.get_many::<String>(id).unwrap_or_default().cloned().map(source);
            matches.indices_of(id).into_iter().flatten().zip(values).collect::<Vec<_>>()
        };
        let mut sources = of("command", Source::Command);
        sources.extend(of("file", Source::File));
        sources.sort_by_key(|(index, _)| *index);
        Ok(Self(sources.into_iter().map(|(_, source)| source).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        parse("f", text).unwrap().into_iter().map(|statement| statement.place).collect()
    }

    #[test]
    fn semicolons_in_strings_and_comments_separate_nothing() {
        assert_eq!(places("-- a; b\nSELECT ';'; /* ; */\n\nSELECT 2;;\n"), ["f:2: statement 1", "f:4: statement 2"]);
        assert_eq!(places("\nSELECT 1"), ["f:2"]);
        assert_eq!(places("  \n-- nothing\n"), Vec::<String>::new());
    }

    #[test]
    fn a_mistake_is_located() {
        let error = parse("f", "SELECT 1;\nSELECT 2;\nSELEC 3").unwrap_err().to_string();
        assert!(error.starts_with("f:3: statement 3: Expected: an SQL statement, found: SELEC"), "{error}");
        let error = parse("f", "SELECT 1;\nSELECT 'x").unwrap_err().to_string();
        assert_eq!(error, "f:2: Unterminated string literal");
    }

    #[test]
    fn complete_is_what_ends_in_a_semicolon() {
        for text in ["SELECT 1;", "SELECT 1; -- done", "", "  "] {
            assert!(is_complete(text), "{text:?}");
        }
        for text in ["SELECT 1", "SELECT ';", "SELECT 1 -- ;", "SELECT 1; SELECT"] {
            assert!(!is_complete(text), "{text:?}");
        }
    }
}
