//! How long the threads of libtorch spin while they wait for one another, before they sleep.
//!
//! Its OpenMP library reads that from the environment when it is loaded: whoever starts the executable has to say so.

const SPINS: &str = "GOMP_SPINCOUNT";
/// Of a process that has its processors for itself. A tenth of the library's own default costs nothing there, and a third of
/// what that costs where something else runs, too.
const ALONE: u32 = 20_000;
/// Of one that shares them: threads that spin keep those away that they wait for.
const BESIDE_OTHERS: u32 = 1_000;

/// The environment variable to start the executable with; none where the user has chosen, or whoever started this process.
/// Only else is asked whether other work runs on the same processors.
pub fn waiting(beside_others: impl FnOnce() -> bool) -> Option<(&'static str, String)> {
    if [SPINS, "OMP_WAIT_POLICY"].iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    let spins = if has_quota() || beside_others() { BESIDE_OTHERS } else { ALONE };
    Some((SPINS, spins.to_string()))
}

/// Whether a control group gives the process less than the processors that it runs on, as a CPU limit of a pod does.
fn has_quota() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let usable = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
    list.and_then(count).is_some_and(|processors| usable < processors)
}

/// How many processors a list such as `0-3,8` names.
fn count(list: &str) -> Option<usize> {
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (last + 1).checked_sub(first)
    });
    ranges.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        for (list, expected) in
            [("0", Some(1)), ("\t0-3", Some(4)), ("0-3,8,10-11", Some(7)), ("", None), ("x-1", None)]
        {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }
}
