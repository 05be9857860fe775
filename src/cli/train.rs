//! `counterweight train` and `counterweight score`: the executable `counterweight-train` does both.

use std::os::unix::process::CommandExt;
use std::process::Command;

use counterweight::error::Result;
use counterweight::external::{Program, waiting};

/// Hands this process over to `counterweight-train`, which takes the same arguments; `beside_others` says whether other work
/// runs on the same processors.
pub(super) fn hand_over(beside_others: impl FnOnce() -> bool) -> Result<()> {
    let program = Program::default().checked()?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).envs(waiting(beside_others)).exec().into())
}
