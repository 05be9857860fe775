//! Runs that are ended at random moments, with a reader looking on.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::folder::{leftovers, names, whole};
use crate::process::{Run, counterweight, outcome, seed};
use crate::scene::{FILES, Look, query, scene, scored, succeed, write_files, write_log};

/// A kind of run, and how to look at what it leaves.
struct Trial<'a> {
    name: &'a str,
    kills: u32,
    terminations: u32,
    /// The folder, below the scene's, that it writes.
    output: &'a str,
    /// Makes the input of a generation and gives the run's arguments.
    prepare: &'a dyn Fn(u64) -> Vec<String>,
    look: &'a (dyn Fn() -> Look + Sync),
    /// What a look sees where a generation is in place.
    seen: &'a (dyn Fn(u64) -> String + Sync),
    /// Whether every run has an input of its own, or only those that follow a completed one.
    each: bool,
}

#[derive(Default)]
struct Counts {
    looks: u32,
    again: u32,
    old: u32,
    new: u32,
    faults: Vec<String>,
}

fn interrupted(folder: &Path, trial: &Trial<'_>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let counts = Mutex::new(Counts::default());
    // What may be seen: the generation last completed, and the ones that were started after it.
    let valid = Mutex::new(vec![(trial.seen)(0)]);
    let stop = AtomicBool::new(false);
    let mut log = Vec::new();
    let (mut completed, mut ended, mut generation) = (0_u32, 0_u32, 0_u64);
    let mut faults = Vec::new();
    let before = names(folder);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let allowed = valid.lock().unwrap().clone();
                let look = (trial.look)();
                // A look that fails at once would leave no time to the run.
                std::thread::sleep(Duration::from_millis(2));
                // A generation may have been completed or begun during the look.
                let allowed = [allowed, valid.lock().unwrap().clone()].concat();
                let mut counts = counts.lock().unwrap();
                counts.looks += 1;
                match look {
                    Look::Whole(seen) if !allowed.contains(&seen) => {
                        counts.faults.push(format!("a generation that is not in place: {seen}, not {allowed:?}"));
                    }
                    Look::Whole(seen) if seen == allowed[0] => counts.old += 1,
                    Look::Whole(_) => counts.new += 1,
                    Look::Again => counts.again += 1,
                    Look::Wrong(fault) => counts.faults.push(fault),
                }
            }
        });

        // The length of a run, beside the reader.
        let mut length = Duration::ZERO;
        let mut next = true;
        for number in 0..3 + trial.kills + trial.terminations {
            if next {
                generation += 1;
                valid.lock().unwrap().push((trial.seen)(generation));
            }
            let arguments = (trial.prepare)(generation);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let found = names(folder);
            let started = Instant::now();
            let run = Run::start(&mut counterweight(folder, &arguments));
            let signal = match number.checked_sub(3) {
                None => None,
                // Alternately, as long as there are both.
                Some(at) if at % 2 == 0 && at / 2 < trial.terminations || at >= 2 * trial.kills => {
                    Some(Signal::SIGTERM)
                }
                Some(_) => Some(Signal::SIGKILL),
            };
            if let Some(signal) = signal {
                std::thread::sleep(length.mul_f64(random.random_range(0.0..1.1)));
                run.send(signal);
            }
            let after = started.elapsed();
            let case = format!("{} run {number}, {signal:?} after {after:?}", trial.name);
            let done = match run.end() {
                Err(fault) => {
                    faults.push(format!("{case}: {fault}"));
                    false
                }
                Ok((status, stderr)) => {
                    let done = status.success();
                    let asked = match signal {
                        None => done,
                        Some(Signal::SIGTERM) => done || status.code() == Some(143) || status.signal() == Some(15),
                        Some(_) => done || status.signal() == Some(9),
                    };
                    if !asked {
                        faults.push(format!("{case}: {status}: {stderr}"));
                    }
                    // A run that ends by itself leaves nothing beside its output.
                    let left: Vec<_> = names(folder).difference(&found).cloned().collect();
                    if status.code().is_some() && !left.is_empty() {
                        faults.push(format!("{case}: left {left:?}"));
                    }
                    done
                }
            };
            if number < 3 {
                length = length.max(started.elapsed());
            }
            if done {
                completed += 1;
                let seen = (trial.seen)(generation);
                valid.lock().unwrap().retain(|other| *other == seen);
            } else {
                ended += 1;
            }
            next = trial.each || done;
            log.push(case);
        }

        if next {
            generation += 1;
            valid.lock().unwrap().push((trial.seen)(generation));
        }
        let arguments = (trial.prepare)(generation);
        let (code, _, stderr) =
            outcome(&mut counterweight(folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>()));
        if code != Some(0) {
            faults.push(format!("{}: the last run, which nobody ends: {code:?}: {stderr}", trial.name));
        }
        stop.store(true, Ordering::Relaxed);
    });

    match (trial.look)() {
        Look::Whole(seen) if seen == (trial.seen)(generation) => {}
        Look::Whole(seen) => faults.push(format!("after the last run: {seen}, not {}", (trial.seen)(generation))),
        Look::Again => faults.push("after the last run: a file is gone".to_owned()),
        Look::Wrong(fault) => faults.push(format!("after the last run: {fault}")),
    }
    if let Err(fault) = leftovers(&folder.join(trial.output)) {
        faults.push(format!("{}: {fault}", trial.output));
    }
    let more: Vec<_> = names(folder).difference(&before).cloned().collect();
    if !more.is_empty() {
        faults.push(format!("left beside {}: {more:?}", trial.output));
    }

    let Counts { looks, again, old, new, faults: seen } = counts.into_inner().unwrap();
    println!(
        "{}: {} kills and {} terminations, which ended {ended} runs; {completed} completed; {looks} looks: {old} saw the \
         old, {new} the new, {again} were to look again, {} saw what nobody may see",
        trial.name,
        trial.kills,
        trial.terminations,
        seen.len(),
    );
    let shown = |faults: &[String]| faults.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        seen.is_empty() && faults.is_empty(),
        "{}: {} wrong looks\n{}\n{} other faults\n{}\nruns: {log:#?}",
        trial.name,
        seen.len(),
        shown(&seen),
        faults.len(),
        shown(&faults),
    );
    assert!(old > 0 && new > 0 && ended > 0, "{}: the reader saw no change", trial.name);
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

#[test]
fn score_that_is_killed_leaves_the_old_or_the_new() {
    let folder = scene();
    let folder = folder.path();
    succeed(folder, &["train", "job.toml", "--device", "cpu"]);
    succeed(folder, &["score", "job.toml"]);
    interrupted(
        folder,
        &Trial {
            name: "score",
            kills: 40,
            terminations: 40,
            output: "scored",
            prepare: &|generation| {
                write_files(folder, "later", FILES, generation);
                strings(&["score", "job.toml"])
            },
            look: &|| scored(folder, "scored/", FILES),
            seen: &|generation| generation.to_string(),
            each: true,
        },
    );
}

#[test]
fn train_that_is_killed_leaves_the_old_model_or_the_new() {
    let folder = scene();
    let folder = folder.path();
    // The two models that are to be told apart, each trained in a place of its own.
    let arguments = |generation: u64, more: &[&str]| {
        let seed = format!("seed={}", 1 + generation % 2);
        let mut all = strings(&["train", "job.toml", "--device", "cpu", "--set", &seed]);
        all.extend(strings(more));
        all
    };
    let look = |model: &str, output: &str| {
        let set = [format!("score.model='{model}'"), format!("score.output='{output}'")];
        let (code, _, stderr) =
            outcome(&mut counterweight(folder, &["score", "job.toml", "--set", &set[0], "--set", &set[1]]));
        match code {
            Some(0) => query(folder, &format!("SELECT round(sum(prediction), 6), max(prediction) FROM '{output}'")),
            Some(1) if ["removed", "replaced", "gone", "changed"].iter().any(|word| stderr.contains(word)) => {
                Look::Again
            }
            code => Look::Wrong(format!("exit code {code:?}: {stderr}")),
        }
    };
    let models = [0, 1].map(|generation| {
        let output = format!("model-{generation}/");
        let set = format!("train.output='{output}'");
        let all = arguments(generation, &["--set", &set]);
        succeed(folder, &all.iter().map(String::as_str).collect::<Vec<_>>());
        let Look::Whole(seen) = look(&output, "reader/seen/") else { panic!("{output} cannot be used") };
        seen
    });
    assert_ne!(models[0], models[1]);
    succeed(folder, &arguments(0, &[]).iter().map(String::as_str).collect::<Vec<_>>());
    interrupted(
        folder,
        &Trial {
            name: "train",
            kills: 30,
            terminations: 30,
            output: "model",
            prepare: &|generation| arguments(generation, &[]),
            look: &|| look("model/", "reader/seen/"),
            seen: &|generation| models[usize::from(generation % 2 == 1)].clone(),
            // Another seed cannot resume what the killed run has kept.
            each: false,
        },
    );
}

#[test]
fn audit_that_is_killed_leaves_the_old_results_or_the_new() {
    let folder = scene();
    let folder = folder.path();
    let audit = ["audit", "job.toml"];
    succeed(folder, &audit);
    let files = || match whole(&folder.join("audit")) {
        Err(fault) => Look::Wrong(fault),
        Ok(all) => {
            let Some(results) = all.content("audit.json") else {
                return Look::Wrong("no audit.json is listed".to_owned());
            };
            match serde_json::from_slice::<serde_json::Value>(results) {
                Ok(results) => Look::Whole(results["checks"]["balance"]["rows"][0]["n"].to_string()),
                Err(error) => Look::Wrong(format!("audit.json of run {}: {error}", all.run)),
            }
        }
    };
    interrupted(
        folder,
        &Trial {
            name: "audit",
            kills: 30,
            terminations: 30,
            output: "audit",
            prepare: &|generation| {
                write_log(folder, generation);
                strings(&audit)
            },
            look: &|| match files() {
                Look::Whole(_) => query(folder, "SELECT n FROM 'audit/balance.parquet'"),
                other => other,
            },
            seen: &|generation| (200 + generation).to_string(),
            each: true,
        },
    );
}
