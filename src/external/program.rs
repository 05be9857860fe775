//! Where the executable `counterweight-train` is, and why it cannot be used.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::protocol::require_version;
use crate::error::{Error, Result, invalid};

/// The executable's name.
const NAME: &str = "counterweight-train";
/// The environment variable that names it.
const VARIABLE: &str = "COUNTERWEIGHT_TRAIN";
/// What a shell and a dynamic loader exit with where a program cannot be started.
const CANNOT_START: i32 = 127;

/// The executable `counterweight-train`: by default the one that the environment variable `COUNTERWEIGHT_TRAIN` names, or
/// the one beside the running executable, or the first on the `PATH`.
#[derive(Debug, Clone, Default)]
pub struct Program(Option<PathBuf>);

impl From<PathBuf> for Program {
    fn from(path: PathBuf) -> Self {
        Self(Some(path))
    }
}

impl Program {
    /// Its path.
    ///
    /// # Errors
    /// Where there is none.
    pub fn path(&self) -> Result<PathBuf> {
        if let Some(path) =
            self.0.clone().or_else(|| std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from))
        {
            return Ok(path);
        }
        let file = format!("{NAME}{EXE_SUFFIX}");
        let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(&file)));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join(&file));
        if let Some(found) = beside.iter().cloned().chain(on_path).find(|path| path.is_file()) {
            return Ok(found);
        }
        let beside = beside.map_or(String::new(), |path| format!("there is no {}, and ", path.display()));
        invalid!(
            "{NAME}, which trains and scores, is not installed: {beside}none on the PATH; install it beside this \
             executable, or name it by the environment variable {VARIABLE}"
        )
    }

    /// Its path, where it starts and is of this version.
    ///
    /// # Errors
    /// Where there is none, it does not start, or it is of another version.
    pub fn checked(&self) -> Result<PathBuf> {
        let path = self.path()?;
        let output = Command::new(&path).arg("--version").output();
        let output = output.map_err(|error| cannot_start(&path, &error.to_string()))?;
        if !output.status.success() {
            return Err(ended_early(&path, output.status, String::from_utf8_lossy(&output.stderr).trim()));
        }
        let version = String::from_utf8_lossy(&output.stdout);
        let version = version.split_whitespace().last().unwrap_or_default();
        require_version(&path.display().to_string(), version)?;
        Ok(path)
    }
}

/// The error of a program that the system does not start.
pub(super) fn cannot_start(path: &Path, why: &str) -> Error {
    Error::Invalid(format!(
        "cannot start {}, which trains and scores: {why}; install it there, or name it by the environment variable \
         {VARIABLE}",
        path.display()
    ))
}

/// The error of a process that ended without saying why on its standard output.
pub(super) fn ended_early(path: &Path, status: ExitStatus, said: &str) -> Error {
    let path = path.display();
    if status.code() == Some(CANNOT_START) || said.contains("error while loading shared libraries") {
        return Error::Invalid(format!(
            "{path} cannot start: {said}; it needs the libtorch that it was built with: keep lib/counterweight beside its \
             bin folder, as `make install` lays them out, or name libtorch's folder lib by LD_LIBRARY_PATH"
        ));
    }
    let said = if said.is_empty() { "it said nothing" } else { said };
    Error::External { message: format!("{path} ended early, by {status}: {said}"), exit_code: 1 }
}

#[cfg(unix)]
#[cfg(test)]
pub(super) mod tests {
    use super::super::protocol::VERSION;
    use super::*;

    /// A shell script in the executable's place.
    pub(in super::super) fn script(folder: &Path, text: &str) -> Program {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(NAME);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.into()
    }

    #[test]
    fn what_cannot_be_used_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Program::from(folder.path().join("none")).checked().unwrap_err();
        assert!(error.is_invalid_input() && error.to_string().contains(VARIABLE), "{error}");

        let error = script(folder.path(), "echo counterweight-train 9.9.9").checked().unwrap_err().to_string();
        assert!(error.contains("\"9.9.9\"") && error.contains("one release"), "{error}");

        let missing = "echo 'error while loading shared libraries: libtorch.so' >&2; exit 127";
        let error = script(folder.path(), missing).checked().unwrap_err();
        assert!(error.is_invalid_input(), "{error}");
        assert!(error.to_string().contains("libtorch.so; it needs the libtorch"), "{error}");

        let error = script(folder.path(), "kill -9 $$").checked().unwrap_err();
        assert!(!error.is_invalid_input() && error.to_string().contains("signal: 9"), "{error}");

        let same = script(folder.path(), &format!("echo counterweight-train {VERSION}"));
        assert_eq!(same.checked().unwrap(), folder.path().join(NAME));
    }
}
