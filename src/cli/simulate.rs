use clap::{Args, ValueEnum};
use counterweight::error::{Error, Result};
use counterweight::job::Shape;
use counterweight::simulate::{Destination, Estimates, Simulation, Simulator, Tally, simulate};
use counterweight::storage::parse_url;
use serde_json::json;
use url::Url;

use counterweight::command::{GlobalArgs, StderrEvents, interrupt, print, tell};

/// Write a seeded exposure log whose true propensities and conversion probabilities are known
///
/// Users click what they like and buy what they like, so the mean over treated rows is biased. Each row carries the
/// truth (`true_propensity`, `true_conversion`), the `propensity` of an imagined system that is wrong in known ways,
/// its `prediction`, and a representation `phi` of the user and the item that balance can be checked on.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// Where to write: a `.parquet` file, or a folder ending in `/` of several; a path or URL
    #[arg(long, value_name = "URL")]
    output: String,
    /// Write a uniformly random sample of the same population here too, with every outcome known
    #[arg(long, value_name = "URL")]
    uniform: Option<String>,
    /// Rows of the uniform sample [default: 20 a user]
    #[arg(long, value_name = "N", requires = "uniform")]
    uniform_rows: Option<u64>,
    /// What a row is
    #[arg(long, value_enum, default_value_t)]
    shape: ShapeArg,
    /// Rows of a log [default: 400000]; a matrix has one for each treated pair
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Number of users
    #[arg(long, value_name = "N", default_value_t = Simulation::default().users)]
    users: u32,
    /// Number of items
    #[arg(long, value_name = "N", default_value_t = Simulation::default().items)]
    items: u32,
    /// Seed of every random choice: the same seed and settings give the same bytes
    #[arg(long, default_value_t = Simulation::default().seed)]
    seed: u64,
    /// K, the length of `phi`
    #[arg(long, value_name = "K", default_value_t = Simulation::default().dim)]
    dim: usize,
    /// Mean of the true propensities
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value_t = Simulation::default().treated_rate)]
    treated_rate: f64,
    /// Mean of the true conversion probabilities
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value_t = Simulation::default().conversion_rate)]
    conversion_rate: f64,
    /// How wrong `propensity` is: 0 is the truth, 1 ignores what users like, and is far too low in every tenth segment
    /// and, less so, on the device `tv`
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = Simulation::default().miscalibration)]
    miscalibration: f64,
    /// Number of segments of users
    #[arg(long, value_name = "N", default_value_t = Simulation::default().segments)]
    segments: u32,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ShapeArg {
    /// Every exposure, treated or not
    #[default]
    Log,
    /// The treated ones among all pairs of user and item, with a rating
    Matrix,
}

impl SimulateArgs {
    fn config(&self) -> Result<Simulation> {
        let shape = match self.shape {
            ShapeArg::Log => Shape::Log,
            ShapeArg::Matrix => Shape::Matrix,
        };
        if shape == Shape::Matrix && self.rows.is_some() {
            return Err(Error::Invalid(
                "--rows belongs to the log shape: a matrix has users × items × treated-rate rows".to_owned(),
            ));
        }
        Ok(Simulation {
            rows: self.rows.unwrap_or(Simulation::default().rows),
            users: self.users,
            items: self.items,
            seed: self.seed,
            shape,
            dim: self.dim,
            treated_rate: self.treated_rate,
            conversion_rate: self.conversion_rate,
            miscalibration: self.miscalibration,
            segments: self.segments,
            uniform_rows: self.uniform_rows,
        })
    }
}

pub(super) async fn run(global: &GlobalArgs, args: SimulateArgs) -> Result<()> {
    let to =
        Destination { output: parse_url(&args.output)?, uniform: args.uniform.as_deref().map(parse_url).transpose()? };
    let config = args.config()?;
    let simulator = Simulator::new(config.clone())?;
    let threads = global.threads.or(std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let interrupt = interrupt();

    let (tally, files) = simulate(simulator, &to, &global.storage(), threads, &interrupt, &StderrEvents).await?;
    tell(json!({"rows": tally.population, "treated": tally.treated}), &files);
    print(&summary(&config, &tally, &files))
}

fn summary(config: &Simulation, tally: &Tally, files: &[Url]) -> String {
    let what = match config.shape {
        Shape::Log => "exposures",
        Shape::Matrix => "pairs",
    };
    let mut text = format!(
        "{} {what} of {} users and {} items, {} treated ({:.2} %; mean true propensity {:.2} %)\n\n{:<28}{:>9}{:>15}{:>18}{:>12}\n",
        grouped(tally.population),
        grouped(config.users.into()),
        grouped(config.items.into()),
        grouped(tally.treated),
        100.0 * tally.treated as f64 / tally.population as f64,
        100.0 * tally.true_propensity(),
        "",
        "truth",
        "naive_treated",
        "IPS, true p",
        "IPS, p",
    );
    let rows = [("conversion rate", tally.conversion()), ("squared error of prediction", tally.squared_error())];
    for (name, Estimates { truth, naive_treated, ips, ips_error, stated_ips, .. }) in rows {
        text += &format!(
            "{name:<28}{truth:>9.4}{naive_treated:>15.4}{:>18}{stated_ips:>12.4}\n",
            format!("{ips:.4} ± {ips_error:.4}")
        );
    }
    text.push('\n');
    match files {
        [first, .., last] if files.len() > 3 => text += &format!("wrote {} files, {first} to {last}\n", files.len()),
        _ => files.iter().for_each(|file| text += &format!("wrote {file}\n")),
    }
    text
}

fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}
