use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle, Result as Ended};

use super::{Batch, Batches, Sample, Sampler};
use counterweight::error::Result;

/// Batches that are made before they are asked for, at most; the reader has one more.
const AHEAD: usize = 2;

/// The batches of another sampler, in its order, made by a thread of their own while the reader works on earlier ones.
///
/// The thread ends with the batches: at their end, with an error, which comes in its place, and where the reader drops
/// them, which waits for the batch under way. A panic of the sampler goes on in the reader.
pub struct Prefetch(Arc<dyn Sampler>);

impl Prefetch {
    /// Makes the batches of `sampler` ahead.
    pub fn new(sampler: Box<dyn Sampler>) -> Self {
        Self(Arc::from(sampler))
    }

    /// What `batches` takes from the sampler.
    fn ahead(&self, batches: impl for<'a> FnOnce(&'a dyn Sampler) -> Batches<'a> + Send + 'static) -> Batches<'_> {
        let (sender, receiver) = sync_channel(AHEAD - 1);
        let sampler = Arc::clone(&self.0);
        let make = move || {
            for batch in batches(&*sampler) {
                let broken = batch.is_err();
                // A reader that is gone has seen enough.
                if sender.send(batch).is_err() || broken {
                    return;
                }
            }
        };
        match Builder::new().name("sampler".to_owned()).spawn(make) {
            Ok(thread) => Box::new(Made(Some((receiver, thread)))),
            Err(error) => Box::new(std::iter::once(Err(error.into()))),
        }
    }
}

impl Sampler for Prefetch {
    fn epoch(&self, epoch: usize) -> Batches<'_> {
        self.ahead(move |sampler| sampler.epoch(epoch))
    }

    fn population(&self) -> Batches<'_> {
        self.ahead(|sampler| sampler.population())
    }

    fn sample(&self) -> Option<Sample<'_>> {
        let population = self.0.sample()?.population;
        let part = |of: for<'a> fn(Sample<'a>) -> Batches<'a>| {
            self.ahead(move |sampler| sampler.sample().map_or_else(|| Box::new(std::iter::empty()) as Batches<'_>, of))
        };
        Some(Sample { treated: part(|sample| sample.treated), drawn: part(|sample| sample.drawn), population })
    }
}

/// What the thread has made, until it has ended.
struct Made(Option<(Receiver<Result<Batch>>, JoinHandle<()>)>);

impl Made {
    /// Waits for the thread, which ends once it finds that nobody receives.
    fn end(&mut self) -> Ended<()> {
        self.0.take().map_or(Ok(()), |(batches, thread)| {
            drop(batches);
            thread.join()
        })
    }
}

impl Iterator for Made {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let (batches, _) = self.0.as_ref()?;
        if let Ok(batch) = batches.recv() {
            return Some(batch);
        }
        self.end().unwrap_or_else(|panic| resume_unwind(panic));
        None
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A panic over batches that nobody reads is of no account.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use tch::Device;

    use super::*;
    use crate::data::sampler::{BlockSampler, Row, RowSampler, tests};
    use counterweight::error::Error;

    fn row(at: u32) -> Row {
        let (user, item) = (at % 9, at % 7);
        let treated = at.is_multiple_of(3);
        Row { user, item, treated, outcome: at as f32, propensity: Some(0.01 * (at + 1) as f32) }
    }

    /// Of a log that is shuffled in full and in part, of every block, and of blocks drawn.
    fn samplers() -> Vec<Box<dyn Sampler>> {
        let log =
            |buffer| RowSampler::new(Box::new((0..60).map(row).collect::<Vec<_>>()), 9, 8, buffer, 3, Device::Cpu);
        let treated = |at| Row { treated: true, ..row(at) };
        let blocks = |count| {
            let rows = (0..40).map(treated).collect();
            BlockSampler::new(rows, (9, 7), (4, 3), 3, Device::Cpu, |_, _| String::new()).unwrap().sampling(count)
        };
        vec![Box::new(log(100)), Box::new(log(10)), Box::new(blocks(None)), Box::new(blocks(Some(4)))]
    }

    #[test]
    fn batches_are_those_of_the_sampler_in_their_order() {
        let all = |batches: Batches<'_>| batches.map(|batch| tests::pairs(&batch.unwrap())).collect::<Vec<_>>();
        let mut sampled = 0;
        for (ahead, plain) in samplers().into_iter().map(Prefetch::new).zip(samplers()) {
            for epoch in [1, 2, 2] {
                let batches = all(ahead.epoch(epoch));
                assert!(batches.len() > 3);
                assert_eq!(batches, all(plain.epoch(epoch)));
            }
            assert_eq!(all(ahead.population()), all(plain.population()));
            let (ours, wanted) = (ahead.sample(), plain.sample());
            assert_eq!(ours.is_some(), wanted.is_some());
            if let (Some(ours), Some(wanted)) = (ours, wanted) {
                sampled += 1;
                assert_eq!(ours.population, wanted.population);
                assert_eq!((all(ours.treated), all(ours.drawn)), (all(wanted.treated), all(wanted.drawn)));
            }
        }
        assert_eq!(sampled, 1);
    }

    /// Gives what its function does, which is told how many batches there were before.
    struct Made<F>(F);

    impl<F: Fn(usize) -> Result<Batch> + Send + Sync> Sampler for Made<F> {
        fn epoch(&self, _: usize) -> Batches<'_> {
            Box::new((0..).map(&self.0))
        }

        fn population(&self) -> Batches<'_> {
            self.epoch(0)
        }
    }

    /// The batches of `make`, without end, and how many were begun.
    fn endless(make: impl Fn(usize) -> Result<Batch> + Send + Sync + 'static) -> (Prefetch, Arc<AtomicUsize>) {
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let make = move |at| {
            count.store(at + 1, Ordering::SeqCst);
            make(at)
        };
        (Prefetch::new(Box::new(Made(make))), begun)
    }

    fn batch(at: usize) -> Batch {
        Batch::of_rows(&[row(at as u32)], 9, Device::Cpu)
    }

    #[test]
    fn two_batches_are_made_ahead_and_none_for_a_reader_that_is_gone() {
        let (sampler, begun) = endless(|at| Ok(batch(at)));
        let mut batches = sampler.epoch(1);
        for read in 1..=5 {
            let pairs = tests::pairs(&batches.next().unwrap().unwrap());
            assert_eq!(pairs, tests::pairs(&batch(read - 1)));
            assert!(begun.load(Ordering::SeqCst) <= read + AHEAD);
        }
        let start = Instant::now();
        while begun.load(Ordering::SeqCst) < 5 + AHEAD && start.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(begun.load(Ordering::SeqCst), 5 + AHEAD);
        drop(batches);
        drop(sampler);
        assert_eq!(Arc::strong_count(&begun), 1, "the thread, which shared the sampler, has ended");
        assert_eq!(begun.load(Ordering::SeqCst), 5 + AHEAD);
    }

    #[test]
    fn an_error_comes_in_its_place_and_ends_the_batches() {
        let broken = |at| if at == 4 { Err(Error::Invalid("the log broke off".to_owned())) } else { Ok(batch(at)) };
        let (sampler, begun) = endless(broken);
        let mut batches = sampler.epoch(1);
        assert!(batches.by_ref().take(4).all(|batch| batch.is_ok()));
        assert_eq!(batches.next().unwrap().unwrap_err().to_string(), "the log broke off");
        assert!(batches.next().is_none() && batches.next().is_none());
        assert_eq!(begun.load(Ordering::SeqCst), 5, "nothing is made after it");
    }

    #[test]
    fn a_panic_goes_on_in_the_reader() {
        let (sampler, _) = endless(|at| if at == 3 { panic!("no memory for batch {at}") } else { Ok(batch(at)) });
        let mut batches = sampler.epoch(1);
        assert!(batches.by_ref().take(3).all(|batch| batch.is_ok()));
        let panic = catch_unwind(AssertUnwindSafe(|| batches.next().is_some())).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "no memory for batch 3");
        drop(batches);
        // Nobody reads as far as it.
        drop(sampler.epoch(1));
    }
}
