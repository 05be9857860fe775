use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Float32Type, Float64Type, Int32Type, Int64Type};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::chunk::CHUNK_ROWS;
use super::*;
use crate::events::{Event, EventSink, NoEvents};
use crate::storage::{Storage, parse_url};

fn small() -> Simulation {
    Simulation { rows: 200_000, users: 300, items: 100, dim: 4, ..Simulation::default() }
}

fn all_rows(config: Simulation, sample: Sample) -> (RecordBatch, Tally) {
    let simulator = Simulator::new(config).unwrap();
    let mut total = Tally::default();
    let batches: Vec<_> = (0..simulator.chunks(sample))
        .map(|index| {
            let (batch, tally) = simulator.chunk(sample, index).unwrap();
            total.merge(&tally);
            batch
        })
        .collect();
    (concat_batches(simulator.schema(), &batches).unwrap(), total)
}

fn floats(batch: &RecordBatch, column: &str) -> Vec<f64> {
    batch[column].as_primitive::<Float64Type>().values().to_vec()
}

fn treated(batch: &RecordBatch) -> Vec<f64> {
    batch["treated"].as_boolean().values().iter().map(|treated| f64::from(u8::from(treated))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of `observed − expected`, in standard errors of a sum of independent 0/1 draws.
fn z_score(observed: &[f64], expected: &[f64]) -> f64 {
    let difference: f64 = observed.iter().zip(expected).map(|(o, p)| o - p).sum();
    difference / expected.iter().map(|p| p * (1.0 - p)).sum::<f64>().sqrt()
}

async fn written(config: &Simulation, to: &Destination, threads: usize) -> Result<(Storage, Vec<Url>)> {
    let storage = Storage::new([]);
    let simulator = Simulator::new(config.clone())?;
    let (_, files) = simulate(simulator, to, &storage, threads, &CancellationToken::new(), &NoEvents).await?;
    Ok((storage, files))
}

fn to(output: &str) -> Destination {
    Destination { output: parse_url(output).unwrap(), uniform: None }
}

#[tokio::test]
async fn same_seed_same_bytes_whatever_the_threads() {
    let rows = 2 * CHUNK_ROWS + 17;
    let plain = Simulation { rows, users: 4_000, items: 400, dim: 2, ..Simulation::default() };
    let other = Simulation { placebo: true, user_correlation: 0.1, unseen: 0.5, ..plain.clone() };
    for (shape, config) in [(Shape::Log, &plain), (Shape::Matrix, &plain), (Shape::Log, &other)] {
        let config = Simulation { shape, ..config.clone() };
        let mut files = Vec::new();
        for (seed, threads) in [(1, 1), (1, 5), (2, 5)] {
            let config = Simulation { seed, ..config.clone() };
            let to = Destination {
                output: parse_url("memory:///log.parquet").unwrap(),
                uniform: Some(parse_url("memory:///uniform.parquet").unwrap()),
            };
            let (storage, urls) = written(&config, &to, threads).await.unwrap();
            assert_eq!(urls.len(), 2);
            files.push((storage.read(&urls[0]).await.unwrap(), storage.read(&urls[1]).await.unwrap()));
        }
        assert!(files[0] == files[1], "threads changed the bytes of the {shape:?} shape");
        assert!(files[0].0 != files[2].0 && files[0].1 != files[2].1, "a seed changes everything");
    }
}

#[test]
fn treatment_follows_the_true_propensity() {
    let (batch, tally) = all_rows(small(), Sample::Biased);
    assert_eq!(batch.num_rows(), 200_000);
    let (treated, propensity) = (treated(&batch), floats(&batch, "true_propensity"));
    assert_eq!(tally.treated as f64, treated.iter().sum::<f64>());
    assert!(z_score(&treated, &propensity).abs() < 4.0);
    assert!((mean(&propensity) - 0.15).abs() < 0.003, "{}", mean(&propensity));

    for column in ["propensity", "true_propensity"] {
        let values = floats(&batch, column);
        assert!(values.iter().all(|p| (0.01..=0.99).contains(p)), "{column} leaves its bounds");
    }
    let edges = [0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0];
    for bin in edges.windows(2) {
        let inside: Vec<_> = (0..treated.len()).filter(|&row| (bin[0]..bin[1]).contains(&propensity[row])).collect();
        let pick = |values: &[f64]| inside.iter().map(|&row| values[row]).collect::<Vec<_>>();
        assert!(inside.len() > 100, "{bin:?} is empty");
        assert!(z_score(&pick(&treated), &pick(&propensity)).abs() < 4.0, "not calibrated in {bin:?}");
    }
}

#[test]
fn outcomes_are_known_where_treated_and_follow_the_true_conversion() {
    let (batch, _) = all_rows(small(), Sample::Biased);
    let outcome = batch["outcome"].as_primitive::<Float64Type>();
    let treated = batch["treated"].as_boolean();
    let conversion = floats(&batch, "true_conversion");
    assert!((mean(&conversion) - 0.2).abs() < 0.003, "{}", mean(&conversion));
    let mut observed = (Vec::new(), Vec::new());
    for (row, outcome) in outcome.iter().enumerate() {
        assert_eq!(outcome.is_some(), treated.value(row));
        if let Some(outcome) = outcome {
            assert!(outcome == 0.0 || outcome == 1.0);
            observed.0.push(outcome);
            observed.1.push(conversion[row]);
        }
    }
    assert!(z_score(&observed.0, &observed.1).abs() < 4.0);
}

#[test]
fn only_the_true_propensities_undo_the_bias() {
    for shape in [Shape::Log, Shape::Matrix] {
        let (_, tally) = all_rows(Simulation { users: 2_000, shape, ..small() }, Sample::Biased);
        for (what, Estimates { truth, naive_treated, ips, ips_error, stated_ips }) in
            [("conversion", tally.conversion()), ("squared error", tally.squared_error())]
        {
            assert!((ips - truth).abs() < 4.0 * ips_error, "{what}: IPS {ips} ± {ips_error} is not {truth}");
            for (name, biased) in [("naive_treated", naive_treated), ("stated propensities", stated_ips)] {
                assert!((biased - truth).abs() > 10.0 * ips_error, "{what}: {name} {biased} is near {truth}");
            }
        }
    }
}

#[test]
fn without_miscalibration_the_propensities_are_the_truth() {
    let (batch, tally) = all_rows(Simulation { miscalibration: 0.0, ..small() }, Sample::Biased);
    assert_eq!(floats(&batch, "propensity"), floats(&batch, "true_propensity"));
    assert_eq!(tally.conversion().ips, tally.conversion().stated_ips);
}

#[test]
fn the_worst_segments_are_those_that_are_off() {
    for seed in 0..4 {
        let config = Simulation { seed, users: 2_000, segments: 20, ..small() };
        let off: Vec<_> = (0..20).filter(|&segment| config.is_off(segment)).collect();
        assert_eq!(off, [9, 19]);
        assert_eq!(worst_two_segments(&all_rows(config, Sample::Biased).0), [9, 19], "seed {seed}");
    }
}

/// The two of 20 segments with the largest BMSE of `propensity`.
fn worst_two_segments(batch: &RecordBatch) -> [usize; 2] {
    let (treated, stated) = (treated(batch), floats(batch, "propensity"));
    let segment = batch["segment"].as_string::<i32>();
    let phi = batch["phi"].as_fixed_size_list();
    let mut imbalance = vec![([0.0; 4], 0.0); 20];
    for row in 0..treated.len() {
        let weight = treated[row] / stated[row] - (1.0 - treated[row]) / (1.0 - stated[row]);
        let index: usize = segment.value(row).strip_prefix("segment-").unwrap().parse().unwrap();
        let (sums, rows) = &mut imbalance[index];
        let phi = phi.value(row);
        for (sum, phi) in sums.iter_mut().zip(phi.as_primitive::<Float32Type>().values()) {
            *sum += weight * f64::from(*phi);
        }
        *rows += 1.0;
    }
    let mut order: Vec<usize> = (0..20).collect();
    let bmse = |index: usize| imbalance[index].0.iter().map(|sum| (sum / imbalance[index].1).powi(2)).sum::<f64>();
    order.sort_by(|&a, &b| bmse(b).total_cmp(&bmse(a)));
    order[..2].sort_unstable();
    [order[0], order[1]]
}

#[test]
fn a_matrix_holds_the_treated_pairs_once_each() {
    let (batch, tally) = all_rows(Simulation { shape: Shape::Matrix, ..small() }, Sample::Biased);
    assert_eq!(tally.population, 300 * 100);
    assert_eq!(tally.treated, batch.num_rows() as u64);
    assert!((tally.treated as f64 / 30_000.0 - tally.true_propensity()).abs() < 0.01);
    assert_eq!(batch["treated"].as_boolean().true_count(), batch.num_rows());
    let ids = |column: &str| batch[column].as_primitive::<Int64Type>().values().to_vec();
    let pairs: std::collections::BTreeSet<_> = ids("user_id").into_iter().zip(ids("item_id")).collect();
    assert_eq!(pairs.len(), batch.num_rows());
    let ratings = batch["rating"].as_primitive::<Int32Type>();
    for (rating, outcome) in ratings.values().iter().zip(floats(&batch, "outcome")) {
        assert!((1..=5).contains(rating));
        assert_eq!(*rating >= 4, outcome == 1.0);
    }
    assert!((1..=5).all(|rating| ratings.values().contains(&rating)));
}

#[test]
fn the_uniform_sample_is_unbiased() {
    let (batch, tally) = all_rows(Simulation { uniform_rows: Some(100_000), ..small() }, Sample::Uniform);
    assert_eq!((batch.num_rows(), tally.treated), (100_000, 100_000));
    let outcome = batch["outcome"].as_primitive::<Float64Type>();
    assert_eq!(outcome.null_count(), 0);
    assert!(z_score(outcome.values(), &vec![0.2; 100_000]).abs() < 6.0, "{}", mean(outcome.values()));
    assert!(batch["split"].as_string::<i32>().iter().all(|split| split != Some("train")));
}

/// A log is referred to by its seed: one that was made before is the one that is made now.
#[test]
fn the_default_world_stays_what_it_is() {
    let (batch, _) = all_rows(Simulation { rows: 5_000, seed: 3, ..small() }, Sample::Biased);
    let ids = |column: &str| batch[column].as_primitive::<Int64Type>().values().to_vec();
    let (users, items, treated) = (ids("user_id"), ids("item_id"), treated(&batch));
    let converted = batch["outcome"].as_primitive::<Float64Type>().iter().flatten().sum::<f64>();
    let pairs = users.iter().zip(&items).zip(&treated).map(|((user, item), o)| *o as i64 * (user * 100 + item));
    assert_eq!((treated.iter().sum::<f64>(), converted, pairs.sum::<i64>()), (760.0, 262.0, 11_253_380));
    assert_eq!((users.iter().sum::<i64>(), items.iter().sum::<i64>()), (750_402, 249_278));
}

/// The mean over seeds of what the mean over treated rows is off by, with its standard error.
fn naive_bias(config: &Simulation) -> (f64, f64) {
    let seeds = 0..12;
    let of = |seed| {
        let (_, tally) = all_rows(Simulation { seed, ..config.clone() }, Sample::Biased);
        let Estimates { truth, naive_treated, .. } = tally.conversion();
        assert!((truth - 0.2).abs() < 0.01, "{truth}");
        naive_treated - truth
    };
    let biases: Vec<f64> = seeds.map(of).collect();
    let centre = mean(&biases);
    let n = biases.len() as f64;
    let variance = biases.iter().map(|bias| (bias - centre).powi(2)).sum::<f64>() / (n - 1.0);
    (centre, (variance / n).sqrt())
}

#[test]
fn in_the_placebo_the_mean_over_treated_rows_is_unbiased() {
    for shape in [Shape::Log, Shape::Matrix] {
        let base = Simulation { rows: 60_000, users: 600, items: 300, shape, ..small() };
        let (bias, error) = naive_bias(&base);
        assert!(bias > 0.05 && bias > 20.0 * error, "{shape:?}: {bias} ± {error}");
        let (bias, error) = naive_bias(&Simulation { placebo: true, ..base });
        assert!(bias.abs() < 4.0 * error && error < 0.005, "{shape:?}: {bias} ± {error}");
    }
}

/// The placebo takes away the confounding alone: conversions vary as they did, and treatment is the same row by row.
#[test]
fn the_placebo_changes_conversion_alone() {
    let (base, _) = all_rows(small(), Sample::Biased);
    let (placebo, _) = all_rows(Simulation { placebo: true, ..small() }, Sample::Biased);
    for column in ["user_id", "item_id", "treated", "propensity", "true_propensity", "phi", "split"] {
        assert_eq!(&base[column], &placebo[column], "{column}");
    }
    let spread = |batch: &RecordBatch| {
        let conversion = floats(batch, "true_conversion");
        mean(&conversion.iter().map(|c| c * c).collect::<Vec<_>>()) - mean(&conversion).powi(2)
    };
    let (base, placebo) = (spread(&base), spread(&placebo));
    assert!((placebo / base - 1.0).abs() < 0.2, "{placebo} is far from {base}");
}

/// ρ of treatments given their true propensities, over all pairs of rows of a user, and its standard error over users.
fn user_correlation(batch: &RecordBatch) -> (f64, f64) {
    let (treated, propensity) = (treated(batch), floats(batch, "true_propensity"));
    let mut of_users: std::collections::BTreeMap<i64, [f64; 4]> = std::collections::BTreeMap::new();
    for (row, user) in batch["user_id"].as_primitive::<Int64Type>().values().iter().enumerate() {
        let (p, variance) = (propensity[row], propensity[row] * (1.0 - propensity[row]));
        let sums = of_users.entry(*user).or_default();
        for (sum, term) in
            sums.iter_mut().zip([treated[row] - p, (treated[row] - p).powi(2), variance.sqrt(), variance])
        {
            *sum += term;
        }
    }
    let pairs = |[residual, squares, deviation, variance]: &[f64; 4]| {
        [residual * residual - squares, deviation * deviation - variance]
    };
    let pairs: Vec<[f64; 2]> = of_users.values().map(pairs).collect();
    let total = |at: usize| pairs.iter().map(|pair| pair[at]).sum::<f64>();
    let correlation = total(0) / total(1);
    let off = |pair: &[f64; 2]| (pair[0] - correlation * pair[1]).powi(2);
    (correlation, pairs.iter().map(off).sum::<f64>().sqrt() / total(1))
}

#[test]
fn treatments_of_a_user_are_as_correlated_as_asked() {
    for (asked, unseen) in [(0.0, 0.0), (0.02, 0.0), (0.1, 0.0), (0.3, 0.0), (0.1, 1.0)] {
        let config = Simulation { users: 2_000, user_correlation: asked, unseen, ..small() };
        let (batch, tally) = all_rows(config, Sample::Biased);
        let (found, error) = user_correlation(&batch);
        assert!((found - asked).abs() < 4.0 * error + 0.05 * asked, "{asked}: {found} ± {error}");
        assert!(error < 0.02 && (tally.true_propensity() - 0.15).abs() < 0.005, "{asked}: ± {error}");
    }
}

/// Over moods, each row is treated with its true propensity, and the mean over seeds of IPS is the truth.
#[test]
fn correlated_treatments_keep_their_propensities() {
    let config = Simulation { rows: 20_000, user_correlation: 0.2, ..small() };
    let of = |seed| {
        let (_, tally) = all_rows(Simulation { seed, ..config.clone() }, Sample::Biased);
        let Estimates { truth, ips, .. } = tally.conversion();
        (ips - truth, tally.treated as f64 / tally.population as f64 - tally.true_propensity())
    };
    let (ips, rates): (Vec<f64>, Vec<f64>) = (0..60).map(of).unzip();
    for (what, off) in [("IPS", ips), ("the treated rate", rates)] {
        let variance = off.iter().map(|value| (value - mean(&off)).powi(2)).sum::<f64>() / 59.0;
        let error = (variance / 60.0).sqrt();
        assert!(mean(&off).abs() < 4.0 * error && error < 0.005, "{what}: {} ± {error}", mean(&off));
    }
}

/// With what is unseen, IPS with the propensities given it is unbiased, and IPS with the best that can be seen is not.
#[test]
fn what_is_unseen_confounds() {
    let config = Simulation { miscalibration: 0.0, unseen: 1.0, users: 2_000, ..small() };
    let (batch, tally) = all_rows(config.clone(), Sample::Biased);
    let Estimates { truth, ips, ips_error, stated_ips, .. } = tally.conversion();
    assert!((truth - 0.2).abs() < 0.003 && (tally.true_propensity() - 0.15).abs() < 0.003, "{truth}");
    assert!((ips - truth).abs() < 4.0 * ips_error, "{ips} ± {ips_error} is not {truth}");
    assert!(stated_ips - truth > 10.0 * ips_error, "{stated_ips} ± {ips_error} is near {truth}");
    // What can be seen is right on average, in every tenth of the propensities.
    let (treated, seen) = (treated(&batch), floats(&batch, "propensity"));
    let mut rows: Vec<usize> = (0..treated.len()).collect();
    rows.sort_by(|a, b| seen[*a].total_cmp(&seen[*b]));
    for tenth in rows.chunks(rows.len() / 10) {
        let pick = |values: &[f64]| tenth.iter().map(|&row| values[row]).collect::<Vec<_>>();
        assert!(z_score(&pick(&treated), &pick(&seen)).abs() < 4.0);
    }
    // In the placebo it moves treatment alone.
    let (_, tally) = all_rows(Simulation { placebo: true, ..config }, Sample::Biased);
    let Estimates { truth, ips_error, stated_ips, .. } = tally.conversion();
    assert!((stated_ips - truth).abs() < 4.0 * ips_error, "{stated_ips} ± {ips_error} is not {truth}");
}

#[test]
fn bad_settings_are_named() {
    let good = small();
    for (config, named) in [
        (Simulation { rows: 0, ..good.clone() }, "rows = 0"),
        (Simulation { users: 0, ..good.clone() }, "users = 0"),
        (Simulation { items: 0, ..good.clone() }, "items = 0"),
        (Simulation { dim: 0, ..good.clone() }, "dim = 0"),
        (Simulation { dim: 5000, ..good.clone() }, "dim = 5000"),
        (Simulation { segments: 0, ..good.clone() }, "segments = 0"),
        (Simulation { uniform_rows: Some(0), ..good.clone() }, "uniform-rows = 0"),
        (Simulation { treated_rate: 0.0, ..good.clone() }, "treated-rate = 0"),
        (Simulation { treated_rate: 1.0, ..good.clone() }, "treated-rate = 1"),
        (Simulation { conversion_rate: f64::NAN, ..good.clone() }, "conversion-rate = NaN"),
        (Simulation { miscalibration: -1.0, ..good.clone() }, "miscalibration = -1"),
        (Simulation { user_correlation: 1.0, ..good.clone() }, "user-correlation = 1"),
        (Simulation { user_correlation: -0.1, ..good.clone() }, "user-correlation = -0.1"),
        (Simulation { user_correlation: 0.97, ..good.clone() }, "differ too much within a user for more than 0."),
        (Simulation { unseen: f64::INFINITY, ..good.clone() }, "unseen = inf"),
    ] {
        let error = Simulator::new(config).unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_rare_treatment_keeps_its_rate() {
    for treated_rate in [0.002, 0.998] {
        let (_, tally) = all_rows(Simulation { treated_rate, ..small() }, Sample::Biased);
        let off = (tally.true_propensity() - treated_rate) / treated_rate.min(1.0 - treated_rate);
        assert!(off.abs() < 0.1, "{treated_rate}: {}", tally.true_propensity());
    }
}

#[tokio::test]
async fn one_user_one_item_one_row() {
    for shape in [Shape::Log, Shape::Matrix] {
        let config = Simulation { rows: 1, users: 1, items: 1, dim: 1, segments: 1, shape, ..Simulation::default() };
        let (storage, files) = written(&config, &to("memory:///tiny/"), 2).await.unwrap();
        assert!(files[0].as_str().starts_with("memory:///tiny/part-00000-2"), "{}", files[0]);
        assert!(!storage.read(&files[0]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_destination_is_a_parquet_file_or_an_empty_folder() {
    let config = Simulation { rows: 10, ..small() };
    let error = written(&config, &to("memory:///log.csv"), 1).await.unwrap_err();
    assert!(error.to_string().contains(".parquet"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let output = to(&format!("{}/", folder.path().display()));
    written(&config, &output, 1).await.unwrap();
    written(&config, &output, 1).await.expect("its own files are replaced");
    std::fs::write(folder.path().join("part-00001.parquet"), "old").unwrap();
    let error = written(&config, &output, 1).await.unwrap_err();
    assert!(error.is_invalid_input() && error.to_string().contains("part-00001.parquet"), "{error}");
}

/// Interrupts what it hears of.
#[derive(Debug)]
struct Interrupt(CancellationToken);

impl EventSink for Interrupt {
    fn emit(&self, event: Event) {
        let (task, message) = ("simulate".to_owned(), String::new());
        let (done, total) = (CHUNK_ROWS, Some(4 * CHUNK_ROWS + 6_000));
        assert_eq!(event, Event::Progress { task, done, total, message });
        self.0.cancel();
    }
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let destination = Destination {
        output: parse_url(&format!("{}/log.parquet", folder.path().display())).unwrap(),
        uniform: Some(parse_url(&format!("{}/uniform.parquet", folder.path().display())).unwrap()),
    };
    let (storage, interrupt) = (Storage::new([]), CancellationToken::new());
    let simulator = Simulator::new(Simulation { rows: 4 * CHUNK_ROWS, dim: 1, ..small() }).unwrap();
    let events = Interrupt(interrupt.clone());
    let error = simulate(simulator, &destination, &storage, 1, &interrupt, &events).await.unwrap_err();
    assert!(matches!(error, crate::Error::Interrupted), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// What a run holds is chunks in the making, whose size does not grow with the rows of the log.
#[test]
fn a_chunk_is_bounded() {
    for shape in [Shape::Log, Shape::Matrix] {
        let config = Simulation { rows: u64::MAX / 2, users: 50_000, items: 2_000, shape, ..Simulation::default() };
        let simulator = Simulator::new(config).unwrap();
        let (batch, _) = simulator.chunk(Sample::Biased, 3).unwrap();
        assert!(batch.num_rows() as u64 <= CHUNK_ROWS * 5 / 4, "{}", batch.num_rows());
        assert!(batch.get_array_memory_size() < 20 << 20, "{}", batch.get_array_memory_size());
    }
}
