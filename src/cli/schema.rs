mod reference;

use clap::{Args, ValueEnum};
use counterweight::command::print;
use counterweight::error::Result;
use counterweight::experiment;
use counterweight::job;

/// Print the JSON Schema of job files, for editors, or the reference of their keys
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The kind of file
    #[arg(value_enum, default_value_t)]
    file: File,
    /// How the schema is laid out
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum File {
    /// A job file
    #[default]
    Job,
    /// An experiment file
    Experiment,
    /// No file: the page of the training methods, in Markdown
    Methods,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// A JSON Schema
    #[default]
    Json,
    /// A page with every key, its type, default and meaning
    Markdown,
}

pub(super) fn run(args: SchemaArgs) -> Result<()> {
    let (name, schema) = match args.file {
        File::Job => ("job", job::json_schema()?),
        File::Experiment => ("experiment", experiment::json_schema()),
        File::Methods => return print(&job::methods_markdown()?),
    };
    print(&match args.format {
        Format::Json => serde_json::to_string_pretty(&schema).map_err(std::io::Error::from)? + "\n",
        Format::Markdown => reference::markdown(name, &schema),
    })
}
