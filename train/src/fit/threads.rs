//! How many threads a step runs on.

/// Values that one thread handles in about a millisecond.
const VALUES_PER_THREAD: usize = 1 << 22;

/// The thread count of libtorch on this thread, set until it is dropped.
///
/// Threads that wait for one another a hundred times a step cost more than they give where a step is small, and much
/// more where other work wants the processor.
#[derive(Debug)]
pub(crate) struct Threads {
    before: i32,
}

impl Threads {
    /// As many threads as steps that touch `values` numbers make good use of, and `at_most` if that is given.
    pub(crate) fn for_step(values: usize, at_most: Option<usize>) -> Self {
        let before = tch::get_num_threads();
        let most = at_most.map_or(before, |most| i32::try_from(most).unwrap_or(before));
        let useful = i32::try_from(values / VALUES_PER_THREAD).unwrap_or(i32::MAX);
        tch::set_num_threads(useful.clamp(1, most.max(1)));
        Self { before }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.before);
    }
}
