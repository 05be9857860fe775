//! What the seconds of an epoch are spent on.

use std::time::Instant;

use counterweight::model::Timing;
use tch::{Cuda, Device};

/// Adds up the [`Timing`] of an epoch; off, it does nothing.
pub(crate) struct Stopwatch {
    timing: Option<Timing>,
    device: Device,
    since: Instant,
}

impl Stopwatch {
    /// A stopwatch that starts now.
    pub(crate) fn new(on: bool, device: Device) -> Self {
        Self { timing: on.then(Timing::default), device, since: Instant::now() }
    }

    /// Adds the time since the last call to a part, once the device has done what it was told to.
    pub(crate) fn lap(&mut self, part: impl FnOnce(&mut Timing) -> &mut f64) {
        let Some(timing) = &mut self.timing else { return };
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
        let now = Instant::now();
        *part(timing) += (now - self.since).as_secs_f64();
        self.since = now;
    }

    /// What was added up.
    pub(crate) fn timing(self) -> Option<Timing> {
        self.timing
    }
}
