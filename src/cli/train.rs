//! `counterweight train` and `counterweight score`: the executable `counterweight-train` does both.

use std::process::Command;

use counterweight::error::Result;
use counterweight::external::Program;

/// Hands this process over to `counterweight-train`, which takes the same arguments.
pub(super) fn hand_over() -> Result<()> {
    let program = Program::default().checked()?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1));
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        Err(command.exec().into())
    }
    #[cfg(not(unix))]
    std::process::exit(command.status()?.code().unwrap_or(1))
}
